internal import ControlAPI
internal import Foundation
internal import Linux

/// What the machine has: versions, memory, hugepages, CPUs and nodes.
extension SupportArchive {
  mutating func addMachine() {
    add("machine/versions.txt", text: Machine.versions)
    add("machine/memory.txt") {
      let text = Machine.files(
        ["/proc/meminfo", "/sys/kernel/mm/transparent_hugepage/enabled"]
          + Machine.below("/sys/kernel/mm/hugepages", each: ["nr_hugepages", "free_hugepages"])
          + Machine.below("/sys/devices/system/node", each: ["meminfo"]))
      return Data(text.utf8)
    }
    add("machine/cpus.txt") {
      var text = Machine.files(
        ["online", "isolated", "nohz_full", "smt/active"].map { "/sys/devices/system/cpu/\($0)" }
          + Machine.below("/sys/devices/system/node", each: ["cpulist", "distance"]))
      text += "[of the kernel's command line]\n\(Machine.tuning)\n"
      return Data(text.utf8)
    }
    add("machine/lscpu.txt") { try HostCommand("lscpu").output() }
  }
}

enum Machine {
  /// Of swivel, the system and what guests run on.
  static func versions() -> String {
    var text = "swivel \(swivelVersion) (the command line; the daemon's is in daemon/stats.json)\n"
    text += SmallFile.read("/proc/version") ?? "the kernel's is not known\n"
    let system = SmallFile.read("/etc/os-release")?.split(separator: "\n").first {
      $0.hasPrefix("PRETTY_NAME=")
    }
    text += "\(system ?? "no /etc/os-release")\n\n[packages]\n"
    text += said(
      HostCommand(
        "dpkg-query", "--show", "swivel", "libnuma1", "libseccomp2", "qemu-system-x86",
        "libvirt-daemon"))
    text += "\n[QEMU's processes]\n"
    let running = emulators()
    if running.isEmpty { text += "none that this user sees\n" }
    for (program, processes) in running.sorted(by: { $0.key < $1.key }) {
      text += "\(program): \(processes.sorted().map(String.init).joined(separator: " "))\n"
      // Nothing but what only root can have put there is started: a guest's user may name his programs as he likes.
      guard program.hasPrefix("/usr/"), FileManager.default.isExecutableFile(atPath: program) else {
        text += "  its version is not known: it is not started from there to be asked\n"
        continue
      }
      let version = said(HostCommand(program, "--version")).split(separator: "\n").first ?? "?"
      text += "  \(version)\n"
    }
    return text
  }

  private static func said(_ command: HostCommand) -> String {
    do throws(SupportError) {
      return String(decoding: try command.output(), as: UTF8.self)
    } catch {
      return "not known: \(error)\n"
    }
  }

  /// QEMU's programs that run, and the processes of each. Their command lines are left out, for secrets may be in them.
  private static func emulators() -> [String: [Int]] {
    var found: [String: [Int]] = [:]
    let entries = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    for process in entries.compactMap({ Int($0) }) {
      let name = SmallFile.read("/proc/\(process)/comm")?.split(separator: "\n").first ?? ""
      guard name.hasPrefix("qemu-") || name.hasPrefix("cloud-hyperviso") || name == "crosvm" else {
        continue
      }
      let program = try? FileManager.default.destinationOfSymbolicLink(
        atPath: "/proc/\(process)/exe")
      found[program ?? String(name), default: []].append(process)
    }
    return found
  }

  /// `each` in every folder below `folder`, in order.
  static func below(_ folder: String, each names: [String]) -> [String] {
    let entries = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return entries.sorted().flatMap { entry in names.map { "\(folder)/\(entry)/\($0)" } }
      .filter(FileManager.default.fileExists)
  }

  /// Small files under their names.
  static func files(_ paths: [String]) -> String {
    paths.map { "[\($0)]\n\(SmallFile.read($0) ?? "can't be read\n")\n" }.joined()
  }

  /// The words of the kernel's command line that concern CPUs, pages and isolation; others may be secrets.
  static var tuning: String {
    let wanted = [
      "isolcpus", "nohz", "rcu_nocb", "irqaffinity", "hugepages", "default_hugepagesz",
      "transparent_hugepage", "mitigations", "intel_iommu", "amd_iommu", "iommu", "idle",
      "intel_idle", "processor", "cpuidle", "numa", "nosmt", "systemd.unified_cgroup",
    ]
    return (SmallFile.read("/proc/cmdline") ?? "").split(whereSeparator: \.isWhitespace)
      .filter { word in wanted.contains { word.hasPrefix($0) } }.joined(separator: " ")
  }
}
