internal import ControlAPI
internal import Linux
internal import SystemPackage

extension TapRequest: PortMaker {
  func makePort(_ request: PortRequest, in parent: Switch, aside: Bool) throws -> any SwitchPort {
    try TapPort(request, self, in: parent)
  }

  func takePort(
    _ handed: HandedPort, _ descriptors: HandedDescriptors, in parent: Switch
  ) throws -> any SwitchPort {
    guard let device = handed.device else {
      throw SystemError("take an uplink", errno: .noSuchFileOrDirectory)
    }
    return try TapPort(
      handed.request, self, in: parent,
      device: TapDevice(
        taking: try device.queues.map { try descriptors.at($0) }, name: device.name,
        made: device.made, segmentsDatagrams: device.segmentsDatagrams))
  }

  func check() throws { try TapDevice.check(name: device) }

  /// A device has the queues of one port.
  var canBePrepared: Bool { false }

  func spelledOut(_ configuration: Switch.Configuration) -> any Attachment {
    TapRequest(device: device, queues: queues ?? 1)
  }

  var foundation: any Attachment { self }

  func standardMACs(_ configuration: Switch.Configuration) -> Int? { nil }
}
