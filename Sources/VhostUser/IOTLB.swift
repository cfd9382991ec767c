/// What an IOMMU lets a device do: VHOST_ACCESS_RO, _WO and _RW.
public struct IOTLBAccess: OptionSet, Hashable, Sendable {
  public let rawValue: UInt8

  public init(rawValue: UInt8) { self.rawValue = rawValue }

  public static let read = IOTLBAccess(rawValue: 1)
  public static let write = IOTLBAccess(rawValue: 2)
}

/// A translation as the front-end tells it: `size` bytes from device address `address` on are at `userAddress` of
/// the front-end. Nothing of it is empty, wraps, or lies outside the memory table.
public struct IOTLBEntry: Equatable, Sendable {
  public let address: UInt64
  public let size: UInt64
  public let userAddress: UInt64
  public let access: IOTLBAccess

  public init(address: UInt64, size: UInt64, userAddress: UInt64, access: IOTLBAccess) {
    self.address = address
    self.size = size
    self.userAddress = userAddress
    self.access = access
  }
}

/// A device address that is needed, and what for.
public struct IOTLBMiss: Hashable, Sendable {
  public let address: UInt64
  public let access: IOTLBAccess

  public init(address: UInt64, access: IOTLBAccess) {
    self.address = address
    self.access = access
  }
}

/// "An IOTLB message", either way: the kernel's `struct vhost_iotlb_msg`, its padding included.
struct IOTLBMessage: Payload, Equatable {
  static let length = 32

  static let miss: UInt8 = 1
  static let update: UInt8 = 2
  static let invalidate: UInt8 = 3

  var address: UInt64
  var size: UInt64
  var userAddress: UInt64
  var access: UInt8
  var type: UInt8

  init(address: UInt64, size: UInt64, userAddress: UInt64, access: UInt8, type: UInt8) {
    self.address = address
    self.size = size
    self.userAddress = userAddress
    self.access = access
    self.type = type
  }

  init(_ miss: IOTLBMiss) {
    self.init(
      address: miss.address, size: 0, userAddress: 0, access: miss.access.rawValue,
      type: IOTLBMessage.miss)
  }

  init(from reader: inout PayloadReader) {
    address = reader.next()
    size = reader.next()
    userAddress = reader.next()
    access = reader.next()
    type = reader.next()
  }

  func write(to writer: inout PayloadWriter) {
    for value in [address, size, userAddress] { writer.append(value) }
    writer.append(access)
    writer.append(type)
    for _ in 0..<6 { writer.append(UInt8(0)) }
  }
}
