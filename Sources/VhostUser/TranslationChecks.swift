/// Whether a front-end tells what is taken back.
///
/// Where the guest's IOMMU does not tell the front-end (QEMU's intel-iommu and a card without ATS), addresses that the
/// guest has unmapped go on to lead where they led, and whatever the guest keeps there now is read as a frame, or
/// overwritten with one (decision 22). That can be seen: a front-end that is asked once more for what it told answers with what
/// is so now, and if an address leads elsewhere without an invalidation between, there will be none for others either.
///
/// Who has invalidated something a moment ago is not asked. Nor would a guest notice: while it takes nothing back, what it
/// told is mapped.
struct TranslationChecks {
  /// Silence after which a front-end is asked.
  private static let silence = Duration.milliseconds(200)
  /// Between two questions: soon at first, and seldom when all has stayed as it is for so many of them.
  private static let interval = Duration.milliseconds(20)...Duration.seconds(1)
  private static let questions = 500
  /// Pages asked for at a time, and most that are kept without an answer.
  private static let number = 4
  private static let limit = 64

  private var pages: Set<UInt64> = []
  /// Questions since anything was told.
  private var quiet = 0
  /// When to ask; `nil`: nothing was told yet.
  private(set) var due: ContinuousClock.Instant?

  /// Notes an update. Returns whether it answers a question asked here.
  mutating func answer(_ entry: IOTLBEntry) -> Bool {
    let count = pages.count
    if count > 0 { removePages(from: entry.address, through: entry.address + (entry.size - 1)) }
    if pages.count < count { return true }
    quiet = 0
    if due == nil { due = .now + TranslationChecks.silence }
    return false
  }

  /// Notes an invalidation: who tells these tells others.
  mutating func withdraw(from first: UInt64, through last: UInt64) {
    removePages(from: first, through: last)
    quiet = 0
    due = .now + TranslationChecks.silence
  }

  /// Begins to ask; returns for how many pages.
  mutating func begin() -> Int {
    quiet += 1
    let interval = TranslationChecks.interval
    due =
      .now + (quiet < TranslationChecks.questions ? interval.lowerBound : interval.upperBound)
    // Those that were not answered are unmapped, or their front-end is busy.
    if pages.count >= TranslationChecks.limit { pages = [] }
    return TranslationChecks.number
  }

  /// Notes that the front-end was asked.
  mutating func note(_ known: IOTLBMiss) { pages.insert(known.address & ~0xFFF) }

  mutating func forget() { self = TranslationChecks() }

  private mutating func removePages(from first: UInt64, through last: UInt64) {
    if pages.isEmpty { return }
    let first = first & ~0xFFF
    pages = pages.filter { $0 < first || $0 > last }
  }
}
