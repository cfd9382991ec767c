/// Columns of text, as wide as their widest cell.
struct Table {
  enum Alignment {
    case left
    case right
  }

  private var columns: [(title: String, alignment: Alignment)]
  private var rows: [[String]] = []

  init(_ columns: [(title: String, alignment: Alignment)]) {
    self.columns = columns
  }

  mutating func add(_ cells: [String]) {
    precondition(cells.count == columns.count)
    rows.append(cells)
  }

  /// The table with its heading, every line ended; no line has trailing spaces.
  var text: String {
    let all = [columns.map(\.title)] + rows
    let widths = columns.indices.map { column in
      all.map { Table.width($0[column]) }.max() ?? 0
    }
    return all.map { cells in
      var line = ""
      for (index, cell) in cells.enumerated() {
        let padding = String(repeating: " ", count: widths[index] - Table.width(cell))
        let last = index == cells.count - 1
        switch columns[index].alignment {
        case .left: line += last ? cell : cell + padding
        case .right: line += padding + cell
        }
        if !last { line += "  " }
      }
      while line.last == " " { line.removeLast() }
      return line + "\n"
    }.joined()
  }

  /// Characters that a cell takes on the screen: its colours take none.
  static func width(_ cell: String) -> Int {
    var width = 0
    var escape = false
    for character in cell {
      if escape {
        if character == "m" { escape = false }
      } else if character == "\u{1b}" {
        escape = true
      } else {
        width += 1
      }
    }
    return width
  }
}
