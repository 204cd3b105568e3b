import CEspalierKernels
import Synchronization

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The only owner of the machine's cores: workers that share out the chunks of one loop at a time.
///
/// Chunk borders depend on the loop alone, never on the number of threads; which thread runs a chunk
/// does not matter. A worker spins briefly after a loop, then parks. A loop started inside a loop, or while
/// another thread has the pool, runs on its own thread.
@safe public final class ThreadPool: @unchecked Sendable {
    /// The pool that everything uses. `ESPALIER_THREADS` sets how many threads take part.
    public static let shared = ThreadPool(width: defaultWidth)

    private typealias Chunk = (Int) -> Void

    // One loop. `gate` is its open bit and the number of workers inside; a late worker finds it closed.
    private let gate = Atomic<UInt32>(0)
    private let generation = Atomic<UInt32>(0)
    private let next = Atomic<Int>(0)
    private var chunks = 0
    private var body: Chunk?
    private let isBusy = Atomic<Bool>(false)

    private let participants: Atomic<Int>
    private let workers: Int
    private let parking = Parking()

    private static let open: UInt32 = 1 << 31
    // About 20 microseconds: longer than the gaps inside a step, short beside a batch's preparation.
    private static let spins = 4_000

    private init(width: Int) {
        workers = max(width, ThreadPool.coreCount) - 1
        participants = Atomic(width)
        for _ in 0..<workers { startThread { [unowned self] in self.work() } }
    }

    /// How many threads take part in a loop, the caller included: 1 up to the number of cores.
    public var width: Int {
        get { participants.load(ordering: .relaxed) }
        set { participants.store(min(max(newValue, 1), workers + 1), ordering: .relaxed) }
    }

    /// The CPUs that this process may use.
    public static let coreCount: Int = {
        // Fewer than the machine has where a scheduler or a container says so.
        let allowed = Int(esp_allowed_cpus())
        if allowed > 0 { return allowed }
        return max(Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))), 1)
    }()

    private static let defaultWidth: Int = {
        guard let text = environment("ESPALIER_THREADS") else { return coreCount }
        guard let width = Int(text), width >= 1, width <= 1024 else {
            endProcess("ESPALIER_THREADS=\(text): a number from 1 to 1024 is expected")
        }
        return width
    }()

    /// Runs `body` once for each of 0..<chunks, in any order, and returns when all are done.
    ///
    /// `body` runs on several threads at once: calls may only write what no other call touches.
    package func forEachChunk(_ chunks: Int, _ body: (Int) -> Void) {
        if Rehearsal.isUnderWay {
            if chunks > 0 { body(0) }
            return
        }
        let width = width
        guard chunks > 1, width > 1,
            !isBusy.exchange(true, ordering: .acquiring)
        else {
            for chunk in 0..<chunks { body(chunk) }
            return
        }
        withoutActuallyEscaping(body) { body in
            self.chunks = chunks
            self.body = body
            next.store(0, ordering: .relaxed)
            gate.store(ThreadPool.open, ordering: .releasing)
            generation.wrappingAdd(1, ordering: .sequentiallyConsistent)
            parking.wakeAll()
            runChunks(body)
            // Close the gate, then wait for those inside.
            var state = gate.bitwiseAnd(~ThreadPool.open, ordering: .acquiringAndReleasing).newValue
            var spins = 0
            while state != 0 {
                if spins < 100_000 { esp_pause() } else { sched_yield() }
                spins += 1
                state = gate.load(ordering: .acquiring)
            }
            self.body = nil
        }
        isBusy.store(false, ordering: .releasing)
    }

    /// Runs `body` over 0..<count in ranges of `grain`, the last one shorter.
    package func forEachRange(_ count: Int, grain: Int, _ body: (Range<Int>) -> Void) {
        let grain = max(grain, 1)
        forEachChunk((count + grain - 1) / grain) { chunk in
            body(chunk * grain..<min((chunk + 1) * grain, count))
        }
    }

    private func runChunks(_ body: Chunk) {
        while true {
            let chunk = next.wrappingAdd(1, ordering: .relaxed).oldValue
            if chunk >= chunks { return }
            body(chunk)
        }
    }

    private func work() {
        var seen: UInt32 = 0
        while true {
            seen = awaitGeneration(after: seen)
            guard enter() else { continue }
            if let body { runChunks(body) }
            gate.wrappingSubtract(1, ordering: .acquiringAndReleasing)
        }
    }

    private func awaitGeneration(after seen: UInt32) -> UInt32 {
        for _ in 0..<ThreadPool.spins {
            let now = generation.load(ordering: .acquiring)
            if now != seen { return now }
            esp_pause()
        }
        parking.park { generation.load(ordering: .sequentiallyConsistent) == seen }
        return generation.load(ordering: .acquiring)
    }

    /// Joins the open loop, unless it is closed or has as many workers as may take part.
    private func enter() -> Bool {
        var state = gate.load(ordering: .acquiring)
        while state & ThreadPool.open != 0, Int(state & ~ThreadPool.open) < width - 1 {
            let (exchanged, original) = gate.compareExchange(
                expected: state, desired: state + 1, ordering: .acquiringAndReleasing)
            if exchanged { return true }
            state = original
        }
        return false
    }
}

/// Where idle workers sleep.
@safe private final class Parking: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let sleepers = Atomic<Int>(0)

    init() {
        unsafe pthread_mutex_init(mutex, nil)
        unsafe pthread_cond_init(condition, nil)
    }

    // Lives as long as the process: the pool is never torn down.

    /// Sleeps while `condition` holds. It is checked after the sleeper is counted, and a waker looks at the
    /// count after its change, so one of the two always sees the other.
    func park(while mustWait: () -> Bool) {
        unsafe pthread_mutex_lock(mutex)
        sleepers.wrappingAdd(1, ordering: .sequentiallyConsistent)
        while mustWait() { unsafe pthread_cond_wait(condition, mutex) }
        sleepers.wrappingSubtract(1, ordering: .sequentiallyConsistent)
        unsafe pthread_mutex_unlock(mutex)
    }

    func wakeAll() {
        guard sleepers.load(ordering: .sequentiallyConsistent) > 0 else { return }
        unsafe pthread_mutex_lock(mutex)
        unsafe pthread_cond_broadcast(condition)
        unsafe pthread_mutex_unlock(mutex)
    }
}

/// Starts a detached thread that takes no signals: those belong to the main thread.
private func startThread(_ body: @escaping () -> Void) {
    final class Box {
        let body: () -> Void
        init(_ body: @escaping () -> Void) { self.body = body }
    }
    var (all, previous) = (sigset_t(), sigset_t())
    unsafe sigfillset(&all)
    unsafe pthread_sigmask(SIG_SETMASK, &all, &previous)
    #if canImport(Glibc)
        var thread = pthread_t()
    #else
        var thread: pthread_t?
    #endif
    let status = unsafe pthread_create(
        &thread, nil,
        { context in
            #if canImport(Glibc)
                guard let context = unsafe context else { return nil }
            #endif
            unsafe Unmanaged<Box>.fromOpaque(context).takeRetainedValue().body()
            return nil
        }, Unmanaged.passRetained(Box(body)).toOpaque())
    require(status == 0, "cannot start a thread (error \(status))")
    unsafe pthread_sigmask(SIG_SETMASK, &previous, nil)
}
