//! The picture without a terminal: plain or coloured lines for pipes, SVG for documents.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

use crate::data::Picture;
use crate::draw;

/// Whether lines have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    No,
    Ansi,
}

/// All of the picture at this width.
pub fn buffer(picture: &Picture, width: u16) -> Buffer {
    let backend = TestBackend::new(width, draw::height(picture));
    // A backend in memory does not fail.
    let Ok(mut terminal) = Terminal::new(backend);
    let Ok(drawn) = terminal.draw(|frame| draw::draw(frame, picture));
    drawn.buffer.clone()
}

fn rows(buffer: &Buffer) -> Vec<&[Cell]> {
    let mut rows: Vec<&[Cell]> = buffer.content.chunks(usize::from(buffer.area.width.max(1))).collect();
    let empty = |row: &&[Cell]| row.iter().all(|cell| cell.symbol().trim().is_empty());
    while rows.last().is_some_and(empty) {
        rows.pop();
    }
    // What lies between the queues and the policies is room of the screen, not of a pipe.
    let mut last = false;
    rows.retain(|row| {
        let this = empty(row);
        !(std::mem::replace(&mut last, this) && this)
    });
    rows
}

/// Runs of cells that look the same.
fn runs(row: &[Cell]) -> Vec<(&Cell, String)> {
    let mut runs: Vec<(&Cell, String)> = Vec::new();
    for cell in row {
        match runs.last_mut() {
            Some((first, text)) if first.style() == cell.style() => text.push_str(cell.symbol()),
            _ => runs.push((cell, cell.symbol().to_owned())),
        }
    }
    runs
}

pub fn lines(buffer: &Buffer, colour: Colour) -> String {
    let mut out = String::new();
    for row in rows(buffer) {
        let mut line = String::new();
        for (cell, text) in runs(row) {
            match (colour, sgr(cell)) {
                (Colour::Ansi, codes) if !codes.is_empty() => line.push_str(&format!("\x1b[{codes}m{text}\x1b[0m")),
                _ => line.push_str(&text),
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn sgr(cell: &Cell) -> String {
    let mut codes = Vec::new();
    for (modifier, code) in [(Modifier::BOLD, "1"), (Modifier::DIM, "2"), (Modifier::REVERSED, "7")] {
        if cell.modifier.contains(modifier) {
            codes.push(code);
        }
    }
    match cell.fg {
        Color::Red => codes.push("31"),
        Color::Green => codes.push("32"),
        Color::Yellow => codes.push("33"),
        _ => {}
    }
    codes.join(";")
}

/// Size of a character in the SVG, in its own units.
const CELL_WIDTH: f64 = 8.4;
const CELL_HEIGHT: f64 = 17.0;

pub fn svg(buffer: &Buffer) -> String {
    let rows = rows(buffer);
    let (width, height) = (f64::from(buffer.area.width) * CELL_WIDTH + 20.0, rows.len() as f64 * CELL_HEIGHT + 20.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"DejaVu Sans Mono, Menlo, \
         Consolas, monospace\" font-size=\"14\">\n<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#16181d\"/>\n"
    );
    for (at, row) in rows.iter().enumerate() {
        let y = 10.0 + at as f64 * CELL_HEIGHT;
        let mut x = 10.0;
        for (cell, text) in runs(row) {
            let long = text.chars().count() as f64 * CELL_WIDTH;
            let reversed = cell.modifier.contains(Modifier::REVERSED);
            if reversed {
                out.push_str(&format!(
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{long:.1}\" height=\"{CELL_HEIGHT}\" fill=\"#3b4252\"/>\n"
                ));
            }
            if !text.trim().is_empty() {
                let fill = match cell.fg {
                    Color::Red => "#ff6b6b",
                    Color::Green => "#7bd88f",
                    Color::Yellow => "#ffd866",
                    _ if cell.modifier.contains(Modifier::DIM) => "#8a919e",
                    _ => "#e6e8ec",
                };
                let weight = if cell.modifier.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
                out.push_str(&format!(
                    "<text x=\"{x:.1}\" y=\"{:.1}\" fill=\"{fill}\"{weight} xml:space=\"preserve\" textLength=\"{long:.1}\">{}</text>\n",
                    y + 13.0,
                    escaped(&text)
                ));
            }
            x += long;
        }
    }
    out.push_str("</svg>\n");
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{NodeRow, PolicyRow, QueueRow};

    fn picture() -> Picture {
        Picture {
            nodes: vec![NodeRow { address: "n:1".into(), role: "primary", used: 95.0, max: 100.0, queues: 2 }],
            queues: vec![
                QueueRow { name: "bull:{a<b}".into(), waiting: 12.0, paused: true, ..QueueRow::default() },
                QueueRow { name: "bull:q".into(), bytes: Some(2048.0), max_bytes: Some(2048.0), ..QueueRow::default() },
            ],
            total: 5,
            policies: vec![PolicyRow {
                node: "n:1".into(),
                name: "backlog-guard".into(),
                version: "1".into(),
                mode: "enforce".into(),
                state: "suspended".into(),
            }],
            ..Picture::default()
        }
    }

    #[test]
    fn all_of_it_is_there_in_lines_of_any_width() {
        for width in [20, 80, 160] {
            let text = lines(&buffer(&picture(), width), Colour::No);
            assert!(text.lines().all(|line| line.chars().count() <= usize::from(width)), "{text}");
            assert!(text.starts_with("n:1 primary"), "{text}");
        }
        let text = lines(&buffer(&picture(), 160), Colour::No);
        for word in
            ["95 %", "QUEUE (3 more)", "bull:{a<b}", "paused", "2.0K", "100 %", "backlog-guard 1  enforce  suspended"]
        {
            assert!(text.contains(word), "no {word} in\n{text}");
        }
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn colours_and_markup_are_whole() {
        let buffer = buffer(&picture(), 160);
        let coloured = lines(&buffer, Colour::Ansi);
        assert!(
            coloured.contains("\x1b[31m")
                && coloured.matches("\x1b[0m").count() == coloured.matches('\x1b').count() / 2
        );
        let svg = svg(&buffer);
        assert!(svg.contains("bull:{a&lt;b}") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }
}
