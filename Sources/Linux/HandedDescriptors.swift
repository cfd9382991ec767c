internal import SystemPackage

/// Descriptors that go to another process beside a message, which names each by its place among them.
public struct HandedDescriptors: Sendable {
  public private(set) var all: [OwnedFD]

  public init(_ all: [OwnedFD] = []) { self.all = all }

  /// Puts one behind the others, and returns its place.
  public mutating func add(_ descriptor: OwnedFD) -> Int {
    all.append(descriptor)
    return all.count - 1
  }

  public mutating func add(_ descriptor: OwnedFD?) -> Int? { descriptor.map { add($0) } }

  /// Throws `.badFileDescriptor` where there is none.
  public func at(_ place: Int) throws(SystemError) -> OwnedFD {
    guard all.indices.contains(place) else {
      throw SystemError(
        "find descriptor \(place) of \(all.count) that were handed over", errno: .badFileDescriptor)
    }
    return all[place]
  }

  public func at(_ place: Int?) throws(SystemError) -> OwnedFD? {
    guard let place else { return nil }
    let descriptor: OwnedFD = try at(place)
    return descriptor
  }
}
