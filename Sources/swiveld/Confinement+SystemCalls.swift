import ControlAPI
import Glibc
import Linux

/// The system calls of the daemon, of the C library, and of Swift's runtime and Dispatch below it.
extension Confinement {
  /// Comes from what the code does. A call that is missing shows as "Operation not permitted" and in the kernel's
  /// audit log (`type=1326`), with its number.
  static var systemCalls: SystemCallFilter {
    var filter = SystemCallFilter()
    filter.allowed = memory + files + sockets + waiting + threads + itself
    filter.conditional = limited
    // No network but that of the ports. Of a family only its protocol 0: of netlink sockets that is rtnetlink, and the rest
    // leads to parts of the kernel that no port needs.
    filter.narrow = PortKind.needs.families.map {
      ("socket", [Condition(0, is: UInt64($0)), Condition(2, is: 0)])
    }
    // Its arguments are in memory, where a filter can't look: the C library falls back on clone.
    filter.absent = ["clone3"]
    filter.deadly = deadly
    return filter
  }

  // What follows in each list: by whom, where it is not plain.

  private static let memory = [
    "brk", "madvise", "mremap", "munmap", "membarrier",
    "get_mempolicy", "mbind",  // guests' memory and the arenas, by node
  ]

  private static let files = [
    "openat", "open", "close", "read", "readv", "pread64", "write", "pwrite64", "writev", "lseek",
    "fstat", "newfstatat", "stat", "lstat", "statx", "fstatfs", "getdents64", "getcwd",
    "access", "faccessat", "faccessat2", "readlink", "readlinkat",
    // A socket's file: made, given its mode and owner, put in another's place, removed.
    "mkdir", "mkdirat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "chmod", "fchmod",
    "fchmodat", "fchmodat2",
    "lchown", "fchownat",
  ]

  private static let sockets = [
    "bind", "listen", "accept4", "connect", "shutdown", "sendmsg", "sendto", "recvmsg", "recvfrom",
    "getsockopt", "setsockopt", "getsockname", "getpeername",
  ]

  private static let waiting = [
    "poll", "ppoll", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2",
    "eventfd2", "signalfd4", "pipe2", "timerfd_create", "timerfd_settime", "timerfd_gettime",
    "nanosleep", "clock_nanosleep", "restart_syscall",
    // Notifications that must not wait for a front-end.
    "io_setup", "io_submit", "io_getevents", "io_pgetevents", "io_cancel", "io_destroy",
  ]

  private static let threads = [
    "futex", "set_robust_list", "get_robust_list", "rseq", "gettid", "exit", "exit_group",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigtimedwait",
    "sigaltstack",
    "sched_yield", "sched_getaffinity", "sched_setaffinity", "sched_getparam", "sched_getscheduler",
    "sched_get_priority_max", "sched_get_priority_min",
    // Dispatch: less for what is less urgent.
    "setpriority",
  ]

  private static let itself = [
    "getpid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getgroups", "capget",
    "clock_gettime", "clock_getres", "gettimeofday", "time", "getcpu", "getrandom", "getrusage",
    "sysinfo",
    "uname",
  ]

  private typealias Condition = SystemCallFilter.Condition

  private static var limited: [(call: String, conditions: [Condition])] {
    let own = UInt64(getpid())
    // Ports may be added later, of any kind.
    let ports = PortKind.needs
    let noCode = Condition(2, is: 0, of: UInt64(PROT_EXEC))
    let local = Condition(0, is: UInt64(AF_UNIX))
    // CLONE_THREAD, and none of the CLONE_NEW… that make namespaces.
    let thread = Condition(0, is: 0x0001_0000, of: 0x7E02_0000 | 0x0001_0000)
    return [
      // No page becomes code.
      ("mmap", [noCode]), ("mprotect", [noCode]),
      ("socket", [local]),
      ("socketpair", [local]),
      // Threads, but no processes.
      ("clone", [thread]),
      // To nobody else: abort(3), raise(3).
      ("kill", [Condition(0, is: own)]), ("tgkill", [Condition(0, is: own)]),
      ("prlimit64", [Condition(0, is: 0)]),
      ("ioctl", Set(requests + ports.requests).sorted().map { Condition(1, is: $0) }),
      // F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL; F_DUPFD_CLOEXEC; F_GET_SEALS.
      ("fcntl", [0, 1, 2, 3, 4, 1030, 1034].map { Condition(1, is: $0) }),
      // PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_GET_SECCOMP, PR_GET_NO_NEW_PRIVS; PR_SET_VMA, by which malloc
      // names its memory.
      ("prctl", [3, 15, 16, 21, 39, 0x5356_4D41].map { Condition(0, is: $0) }),
    ]
  }

  private static let requests: [UInt64] = [
    // TCGETS, by which stdio learns whether it writes to a terminal; FIONREAD, FIONBIO, by Dispatch
    0x5401, 0x541B, 0x5421,
  ]

  /// What no mistake of ours calls. A fork, which might come from Swift's backtraces at a crash, is not among them:
  /// refused, it leaves the crash its own name.
  private static let deadly = [
    "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd",
    "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "personality",
    "mount", "umount2", "move_mount", "open_tree", "mount_setattr", "fsopen", "fsconfig", "fsmount",
    "fspick", "pivot_root", "chroot", "setns", "unshare", "open_by_handle_at", "name_to_handle_at",
    "add_key", "request_key", "keyctl", "init_module", "finit_module", "delete_module",
    "kexec_load",
    "kexec_file_load", "reboot", "swapon", "swapoff", "acct", "quotactl", "syslog", "iopl",
    "ioperm",
    "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname",
    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid",
    "setfsgid",
    "capset", "mknod", "mknodat", "symlink", "symlinkat", "link", "linkat",
  ]
}
