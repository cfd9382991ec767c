/// What a front-end does with the messages and descriptors it sends.
extension Catalogue {
  static var protocolCases: [Case] { [] }
}
