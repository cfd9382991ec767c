internal import CLinux
internal import Glibc
internal import Synchronization

/// Waiting until no worker can hold what a replaced plan named: quiescent-state-based reclamation (QSBR).
///
/// A worker loads its plan once a turn and announces the turn's end by raising its epoch. Control posts the
/// new plan, makes every running thread of the process pass a full barrier (membarrier(2): the cost is
/// control's, not the hot loop's), and then reads the epochs. A worker whose epoch is odd sleeps and holds
/// nothing; when it wakes it raises its epoch before it looks for its plan. Any other worker has finished
/// with the old plan when its epoch has changed. The barrier is what makes one change enough: a turn that
/// starts after it cannot have loaded the plan before it.
struct Quiescence {
  /// Whether membarrier(2) can be used; if not, workers fence once a turn themselves.
  static let hasBarrier = clx_membarrier_register() == 0

  static func wait(for workers: [WorkerThread]) {
    if hasBarrier {
      _ = clx_membarrier()
    } else {
      atomicMemoryFence(ordering: .sequentiallyConsistent)
    }
    for worker in workers {
      let seen = worker.state.epoch
      if seen & 1 != 0 { continue }
      var spins = 0
      while worker.state.epoch == seen {
        spins += 1
        // A turn takes microseconds. On a machine with fewer CPUs than threads the worker may have to be
        // let run first.
        if spins < 100 { clx_pause() } else { usleep(20) }
      }
    }
  }
}
