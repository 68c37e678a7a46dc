//! Tables on the screen.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

/// One rule below the header, and nothing else that is drawn.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table without rows; `figures` are the columns that hold numbers.
pub(crate) fn new(header: &[&str], figures: impl IntoIterator<Item = usize>) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(header);
    for index in figures {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
