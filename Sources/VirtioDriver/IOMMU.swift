internal import Linux

/// An IOMMU between a device and a guest's memory, and the part of a front-end that serves it: it answers the
/// back-end's misses page by page, on a thread of its own (vhost-user.rst, "IOMMU support").
///
/// A page that nothing else was said of leads to the guest memory of the same address.
@safe public final class IOMMU: @unchecked Sendable {
  /// Bytes of a page.
  public static let page: UInt64 = 4096
  /// From a region's device addresses to its guest physical ones, so that nobody can take one for the other.
  public static let distance: UInt64 = 1 << 44

  public struct Access: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    public static let read = Access(rawValue: 1)
    public static let write = Access(rawValue: 2)
  }

  /// A miss as the back-end told it.
  public struct Miss: Hashable, Sendable {
    public var address: UInt64
    public var access: Access
  }

  private struct State {
    /// What pages lead to, by device address, as guest addresses of the memory; access 0: to nothing.
    var pages: [UInt64: (address: UInt64, access: Access)] = [:]
    var misses: [Miss] = []
    var isSilent = false
    var thread: Linux.Thread?
    var finish: EventFD?
    var frontEnd: FrontEnd?
  }

  private let memory: GuestMemory
  private let state = Lock(State())

  public init(_ memory: GuestMemory) { self.memory = memory }

  deinit { detach() }

  // ---- The front-end's part ----

  /// Gives the back-end a channel, SET_BACKEND_REQ_FD, and answers what comes there.
  func attach(_ frontEnd: FrontEnd) throws(FrontEndError) {
    detach()
    let (ours, theirs): (OwnedFD, OwnedFD)
    let finish: EventFD
    do throws(SystemError) {
      (ours, theirs) = try UnixSocket.pair()
      finish = try EventFD()
    } catch {
      throw .system(error)
    }
    try frontEnd.set(.setBackendReqFD, descriptors: [theirs])
    let memory = memory
    let state = state
    let thread: Linux.Thread
    do throws(SystemError) {
      thread = try Linux.Thread(name: "iommu") {
        IOMMU.serve(ours, finish, frontEnd, memory, state)
      }
    } catch {
      throw .system(error)
    }
    state.withLock { state in
      state.thread = thread
      state.finish = finish
      state.frontEnd = frontEnd
    }
  }

  private func detach() {
    let (thread, finish) = state.withLock { state in
      defer {
        state.thread = nil
        state.finish = nil
        state.frontEnd = nil
      }
      return (state.thread, state.finish)
    }
    finish?.signal()
    thread?.join()
  }

  private static func serve(
    _ channel: OwnedFD, _ finish: EventFD, _ frontEnd: FrontEnd, _ memory: GuestMemory,
    _ state: Lock<State>
  ) {
    // Its messages look like those of the other socket, from the other side.
    let requests = FrontEnd(socket: channel)
    while true {
      guard
        let ready = try? Poller.wait([
          (descriptor: finish.descriptor.raw, interest: .read),
          (descriptor: channel.raw, interest: .read),
        ]), !ready[0], let message = try? requests.receive()
      else { return }
      guard message.request.rawValue == 1, message.payload.count == 32, message.payload[25] == 1
      else { continue }
      let miss = Miss(
        address: FrontEndMessage.load(message.payload, at: 0),
        access: Access(rawValue: message.payload[24]))
      let isSilent = state.withLock { state in
        state.misses.append(miss)
        return state.isSilent
      }
      if isSilent { continue }
      do throws(FrontEndError) {
        try update(miss.address, frontEnd, memory, state)
      } catch {
        return
      }
    }
  }

  private static func update(
    _ address: UInt64, _ frontEnd: FrontEnd, _ memory: GuestMemory, _ state: Lock<State>
  ) throws(FrontEndError) {
    let page = address / IOMMU.page * IOMMU.page
    let everything: Access = [.read, .write]
    let target = state.withLock { $0.pages[page] ?? (address: page, access: everything) }
    guard !target.access.isEmpty, let user = memory.userAddress(of: target.address) else { return }
    try frontEnd.set(
      .iotlbMsg,
      FrontEndMessage.iotlb(
        address: page, size: IOMMU.page, userAddress: user, access: target.access.rawValue,
        type: 2))
  }

  // ---- The guest's part ----

  /// Lets the page at device address `address` lead to the memory at `target`. The device is told only when it
  /// asks: `invalidate` first.
  public func map(_ address: UInt64, to target: UInt64, _ access: Access = [.read, .write]) {
    state.withLock { $0.pages[address / IOMMU.page * IOMMU.page] = (target, access) }
  }

  /// Lets a page lead elsewhere as a guest does it: nowhere first, until the device has let go of it.
  public func move(_ address: UInt64, to target: UInt64) throws(FrontEndError) {
    map(address, to: target, [])
    try invalidate(address / IOMMU.page * IOMMU.page, size: IOMMU.page)
    map(address, to: target)
  }

  /// Takes `size` bytes at a device address from the device; returns when it has let go of them.
  public func invalidate(_ address: UInt64, size: UInt64) throws(FrontEndError) {
    guard let frontEnd = state.withLock({ $0.frontEnd }) else { throw .closed }
    try frontEnd.set(
      .iotlbMsg,
      FrontEndMessage.iotlb(address: address, size: size, userAddress: 0, access: 0, type: 3))
  }

  /// Tells the device of a page it has not asked for.
  public func update(_ address: UInt64) throws(FrontEndError) {
    guard let frontEnd = state.withLock({ $0.frontEnd }) else { throw .closed }
    try IOMMU.update(address, frontEnd, memory, state)
  }

  /// Answers nothing while true.
  public var isSilent: Bool {
    get { state.withLock { $0.isSilent } }
    set { state.withLock { $0.isSilent = newValue } }
  }

  /// What the back-end has asked for so far.
  public var misses: [Miss] { state.withLock { $0.misses } }
}
