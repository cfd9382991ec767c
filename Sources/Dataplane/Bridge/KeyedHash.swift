/// Multiplication by a number that only this process knows: whoever can't foresee it can't choose what collides.
enum KeyedHash {
  /// A multiplier that depends on all of `key` but its highest bit, which is added before the multiplication.
  ///
  /// It is odd for every key. By an even number different words have the same product, and the lowest bits of all
  /// products are zero: buckets would stay empty.
  @inline(always)
  static func multiplier(_ key: UInt64) -> UInt64 { 0x9E37_79B9_7F4A_7C15 ^ (key &<< 1) }

  /// Good enough for hints, and quick. Words that differ in a few high bits have hashes that differ in some places
  /// only, and follow each other in even steps.
  ///
  /// - Parameter multiplier: of the same key.
  @inline(always)
  static func hash(_ word: UInt64, _ key: UInt64, multiplier: UInt64) -> UInt64 {
    let product = (word ^ key).multipliedFullWidth(by: multiplier)
    return product.high ^ product.low
  }

  /// A hash of which each bit depends on every bit of `hash` (the finalizer of SplitMix64): for whoever takes several
  /// numbers out of it, and is not in such a hurry.
  @inline(always)
  static func spread(_ hash: UInt64) -> UInt64 {
    let first = (hash ^ hash &>> 30) &* 0xBF58_476D_1CE4_E5B9
    let second = (first ^ first &>> 27) &* 0x94D0_49BB_1331_11EB
    return second ^ second &>> 31
  }
}
