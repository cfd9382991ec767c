internal import CSeccomp
internal import Glibc
internal import SystemPackage

/// The system calls that a thread, and those it starts, may make (seccomp(2), by libseccomp).
public struct SystemCallFilter: Sendable, Equatable {
  /// What an argument must be: `argument & mask == value`.
  public struct Condition: Sendable, Equatable {
    /// From 0 to 5.
    public var argument: UInt32
    public var mask: UInt64
    public var value: UInt64

    /// The low 32 bits are what an `int` of the call is made of, whatever stands above them.
    public init(_ argument: UInt32, is value: UInt64, of mask: UInt64 = 0xFFFF_FFFF) {
      self.argument = argument
      self.value = value
      self.mask = mask
    }
  }

  /// Calls that may be made with any arguments.
  public var allowed: [String] = []
  /// Calls that may be made when one of the conditions holds.
  public var conditional: [(call: String, conditions: [Condition])] = []
  /// Calls that may be made when all of the conditions hold, each of another argument.
  public var narrow: [(call: String, conditions: [Condition])] = []
  /// Calls that fail as in a kernel that has them not: the caller does it in another way.
  public var absent: [String] = []
  /// Calls that end the process, by SIGSYS.
  public var deadly: [String] = []

  public init() {}

  public static func == (left: SystemCallFilter, right: SystemCallFilter) -> Bool {
    left.allowed == right.allowed && left.absent == right.absent && left.deadly == right.deadly
      && left.conditional.elementsEqual(right.conditional) { $0 == $1 }
      && left.narrow.elementsEqual(right.narrow) { $0 == $1 }
  }

  /// Comes into force, for good, for the calling thread and those it starts. A call that is not listed fails with
  /// EPERM and is noted in the kernel's audit log; a call of another architecture's table ends the process.
  /// Sets no_new_privs. Names that this machine's libseccomp does not know are passed over.
  public func enforce() throws(SystemError) {
    // A filter of its own, the first: what is answered like this happens all the time, and is no news for a log.
    try unsafe load(otherwise: SCMP_ACT_ALLOW, logged: false) { context throws(SystemError) in
      for name in absent {
        try unsafe add(name, SystemCallFilter.failure(ENOSYS), [], to: context)
      }
    }
    try unsafe load(otherwise: SystemCallFilter.failure(EPERM), logged: true) {
      context throws(SystemError) in
      for name in allowed + absent { try unsafe add(name, SCMP_ACT_ALLOW, [], to: context) }
      for (name, conditions) in conditional {
        for condition in conditions {
          try unsafe add(name, SCMP_ACT_ALLOW, [condition], to: context)
        }
      }
      for (name, conditions) in narrow {
        try unsafe add(name, SCMP_ACT_ALLOW, conditions, to: context)
      }
      for name in deadly { try unsafe add(name, SCMP_ACT_KILL_PROCESS, [], to: context) }
    }
  }

  /// SCMP_ACT_ERRNO
  private static func failure(_ errno: CInt) -> UInt32 { 0x0005_0000 | UInt32(errno) }

  private func load(
    otherwise action: UInt32, logged: Bool,
    _ fill: (scmp_filter_ctx) throws(SystemError) -> Void
  ) throws(SystemError) {
    guard let context = unsafe seccomp_init(action) else {
      throw SystemError("make a system call filter", errno: .noMemory)
    }
    // SAFETY: the context is this function's, and no call keeps what it is given.
    defer { unsafe seccomp_release(context) }
    // A tree instead of a list, and a note of what was refused: good to have, where it can be had.
    _ = unsafe seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2)
    if logged { _ = unsafe seccomp_attr_set(context, SCMP_FLTATR_CTL_LOG, 1) }
    try unsafe fill(context)
    let result = unsafe seccomp_load(context)
    try SystemError.check(result, "put the system call filter into force")
  }

  private func add(
    _ name: String, _ action: UInt32, _ conditions: [Condition], to context: scmp_filter_ctx
  ) throws(SystemError) {
    let number = unsafe seccomp_syscall_resolve_name(name)
    // __NR_SCMP_ERROR
    if number == -1 { return }
    let comparisons = conditions.map {
      scmp_arg_cmp(
        arg: $0.argument, op: SCMP_CMP_MASKED_EQ, datum_a: $0.mask, datum_b: $0.value)
    }
    // SAFETY: reads the array during the call.
    let result = unsafe seccomp_rule_add_array(
      context, action, number, UInt32(comparisons.count), comparisons)
    // Where the architecture has no such call there is nothing to say about it.
    if result == -EDOM { return }
    try SystemError.check(result, "add \(name) to the system call filter")
  }
}
