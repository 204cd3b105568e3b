import Foundation

/// Debian's oneDNN, loaded where it is installed: only benchmarks know it.
enum OneDNN {
    private typealias Gemm =
        @convention(c) (
            CChar, CChar, CChar, Int, Int, Int, Float, UnsafePointer<UInt8>, Int, UInt8,
            UnsafePointer<Int8>, Int, Int8, Float, UnsafeMutablePointer<Int32>, Int,
            UnsafePointer<Int32>
        ) -> Int32

    static var isInstalled: Bool { unsafe gemm != nil }

    /// y [rows, outputs] = x [rows, inputs] w [outputs, inputs]ᵀ
    static func multiply(
        _ x: UnsafePointer<UInt8>, _ w: UnsafePointer<Int8>, _ y: UnsafeMutablePointer<Int32>,
        _ rows: Int, _ outputs: Int, _ inputs: Int
    ) {
        var offset: Int32 = 0
        _ = unsafe gemm?(
            CChar(UInt8(ascii: "N")), CChar(UInt8(ascii: "T")), CChar(UInt8(ascii: "F")), rows,
            outputs, inputs, 1, x, inputs, 0, w, inputs, 0, 0, y, outputs, &offset)
    }

    private static let gemm: Gemm? = {
        // Read when its thread pool is made.
        unsafe setenv("OMP_NUM_THREADS", "1", 1)
        for name in ["libdnnl.so.2", "libdnnl.so.3", "libdnnl.so"] {
            guard let library = unsafe dlopen(name, RTLD_NOW),
                let symbol = unsafe dlsym(library, "dnnl_gemm_u8s8s32")
            else { continue }
            return unsafe unsafeBitCast(symbol, to: Gemm.self)
        }
        return nil
    }()
}
