internal import CLinux
internal import Glibc

/// Which CPUs the calling thread, and the threads it starts from then on, may run on.
public enum Affinity {
  public static var cpuCount: Int { max(1, Int(clx_cpu_count())) }

  /// The calling thread's number in the kernel.
  public static var threadID: Int { Int(clx_thread_id()) }

  /// The number of the process's first thread.
  public static var firstThread: Int { Int(getpid()) }

  /// The CPU that a thread of this process runs on, or ran on last; `nil`: there is none, or the kernel does not say.
  public static func cpu(ofThread thread: Int) -> Int? {
    let cpu = clx_thread_cpu(CInt(clamping: thread))
    return cpu < 0 ? nil : Int(cpu)
  }

  /// CPUs the calling thread may run on, ascending.
  public static var current: [Int] {
    var cpus = [CInt](repeating: 0, count: 1024)
    // SAFETY: writes at most the array's length into it.
    let count = unsafe clx_affinity_get(&cpus, CInt(cpus.count))
    return cpus.prefix(max(0, Int(count))).map(Int.init)
  }

  /// Confines a thread of this process, else the calling one, to `cpus`. Fails with `.invalidArgument` when none of them is
  /// usable.
  public static func confine(_ thread: Int = 0, to cpus: [Int]) throws(SystemError) {
    let list = cpus.map { CInt(clamping: $0) }
    // SAFETY: reads the array during the call.
    try SystemError.check(
      unsafe clx_affinity_set(CInt(clamping: thread), list, CInt(list.count)), "run on CPU \(cpus)")
  }
}
