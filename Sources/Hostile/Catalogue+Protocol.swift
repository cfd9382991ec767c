/// What a front-end does with the messages and descriptors it sends.
extension Catalogue {
  static var protocolCases: [Case] {
    messages + framing + memoryTables + partialRings + logging + notifications + flapping
      + translations + stalling
  }
}
