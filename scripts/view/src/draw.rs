//! The picture as widgets. Knows no server and no terminal: the same is drawn on a screen, into a pipe and into a file.

use std::time::{SystemTime, UNIX_EPOCH};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use crate::data::{Picture, QueueRow};

/// Narrowest column of names.
const NAME: u16 = 16;
/// Lines of policies and decisions.
const POLICIES: u16 = 4;
const DECISIONS: u16 = 8;

/// Lines that the picture needs, so that a pipe gets all of it.
pub fn height(picture: &Picture) -> u16 {
    let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
    rows(
        picture.nodes.len()
            + picture.lost.len()
            + picture.queues.len()
            + picture.policies.len()
            + picture.decisions.len(),
    )
    .saturating_add(8)
}

pub fn draw(frame: &mut Frame<'_>, picture: &Picture) {
    let some = |count: usize, most: u16| if count == 0 { 0 } else { (count as u16).min(most) + 2 };
    let head = u16::try_from(picture.nodes.len() + picture.lost.len()).unwrap_or(u16::MAX).min(8) + 1;
    let areas = Layout::vertical([
        Constraint::Length(head),
        Constraint::Min(3),
        Constraint::Length(some(picture.policies.len(), POLICIES)),
        Constraint::Length(some(picture.decisions.len(), DECISIONS)),
    ])
    .split(frame.area());
    frame.render_widget(Paragraph::new(nodes(picture)), areas[0]);
    frame.render_widget(queues(picture), areas[1]);
    frame.render_widget(Paragraph::new(policies(picture)), areas[2]);
    frame.render_widget(Paragraph::new(decisions(picture)), areas[3]);
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// Green, yellow or red by how full something is.
fn fill(part: f64) -> Style {
    Style::new().fg(match part {
        part if part >= 0.9 => Color::Red,
        part if part >= 0.8 => Color::Yellow,
        _ => Color::Green,
    })
}

fn warn(bad: bool) -> Style {
    if bad { Style::new().fg(Color::Yellow) } else { Style::new() }
}

fn nodes(picture: &Picture) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = picture
        .nodes
        .iter()
        .map(|node| {
            let mut spans = vec![
                Span::styled(format!("{} ", node.address), bold()),
                Span::styled(format!("{}  ", node.role), dim()),
                Span::raw(format!("memory {}", bytes(node.used))),
            ];
            if node.max > 0.0 {
                let part = node.used / node.max;
                spans.push(Span::raw(format!(" of {} ", bytes(node.max))));
                spans.push(Span::styled(bar(part, 12), fill(part)));
                spans.push(Span::styled(format!(" {:.0} %", part * 100.0), fill(part)));
            }
            spans.push(Span::raw(format!("  queues {}", node.queues)));
            Line::from(spans)
        })
        .collect();
    lines.extend(picture.lost.iter().map(|text| Line::styled(text.as_str(), Style::new().fg(Color::Red))));
    lines
}

/// `####------`, in characters that every terminal has.
fn bar(part: f64, width: usize) -> String {
    let full = ((part.clamp(0.0, 1.0) * width as f64).round() as usize).min(width);
    format!("{}{}", "#".repeat(full), "-".repeat(width - full))
}

fn queues(picture: &Picture) -> Table<'_> {
    let hidden = picture.total.saturating_sub(picture.queues.len());
    let more = if hidden > 0 { format!("QUEUE ({hidden} more)") } else { "QUEUE".to_owned() };
    let names = [
        "WAIT", "ACTIVE", "DELAY", "OLDEST", "IN/S", "DONE/S", "FAIL/S", "FAIL/H", "RUN P95", "BYTES", "BUDGET",
        "HELD", "",
    ];
    let head = std::iter::once(Cell::from(more)).chain(names.into_iter().map(|name| Cell::from(right(name))));
    let rows = picture.queues.iter().map(row);
    let widths = [
        Constraint::Min(NAME),
        Constraint::Length(7),
        Constraint::Length(6),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(6),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(6),
        Constraint::Length(9),
    ];
    Table::new(rows, widths).header(Row::new(head).style(bold().add_modifier(Modifier::REVERSED))).column_spacing(1)
}

fn right(text: impl Into<String>) -> Line<'static> {
    Line::from(text.into()).right_aligned()
}

fn row(queue: &QueueRow) -> Row<'_> {
    let over = |value: f64, limit: Option<f64>| limit.is_some_and(|limit| value >= limit);
    let budget = match (queue.bytes, queue.max_bytes) {
        (Some(bytes), Some(max)) if max > 0.0 => Some(bytes / max),
        _ => None,
    };
    let mut state = String::new();
    if queue.paused {
        state.push_str("paused ");
    }
    if queue.stalled > 0.0 {
        state.push_str(&format!("{} stalled", count(queue.stalled)));
    }
    let cell = |text: String, style: Style| Cell::from(right(text)).style(style);
    let wait = if over(queue.waiting, queue.max_jobs) { Style::new().fg(Color::Red) } else { Style::new() };
    Row::new([
        Cell::from(queue.name.as_str()),
        cell(count(queue.waiting), wait),
        cell(count(queue.active), Style::new()),
        cell(count(queue.delayed), Style::new()),
        cell(time(queue.oldest_waiting_ms), warn(queue.oldest_waiting_ms > 600_000.0)),
        cell(rate(queue.added_per_sec), Style::new()),
        cell(rate(queue.completed_per_sec), Style::new()),
        cell(rate(queue.failed_per_sec), warn(queue.failed_per_sec > 0.05)),
        cell(count(queue.failed_last_hour), warn(queue.failed_last_hour > 100.0)),
        cell(time(queue.run_p95_ms), Style::new()),
        cell(queue.bytes.map_or("-".into(), bytes), Style::new()),
        cell(budget.map_or("-".into(), |part| format!("{:.0} %", part * 100.0)), budget.map_or(dim(), fill)),
        cell(count(queue.held), warn(queue.held > 0.0)),
        Cell::from(state).style(Style::new().fg(Color::Yellow)),
    ])
}

fn policies(picture: &Picture) -> Vec<Line<'_>> {
    if picture.policies.is_empty() {
        return Vec::new();
    }
    let several = picture.nodes.len() > 1;
    let mut lines = vec![Line::raw(""), Line::styled("POLICIES", bold())];
    lines.extend(picture.policies.iter().map(|policy| {
        let style = Style::new().fg(if policy.state == "ready" { Color::Green } else { Color::Red });
        let place = if several { format!("  {}", policy.node) } else { String::new() };
        Line::from(vec![
            Span::raw(format!("{} {}  {}  ", policy.name, policy.version, policy.mode)),
            Span::styled(policy.state.as_str(), style),
            Span::styled(place, dim()),
        ])
    }));
    lines
}

fn decisions(picture: &Picture) -> Vec<Line<'_>> {
    if picture.decisions.is_empty() {
        return Vec::new();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_millis() as f64);
    let mut lines = vec![Line::raw(""), Line::styled("LAST DECISIONS", bold())];
    lines.extend(picture.decisions.iter().map(|decision| {
        let ago = time((now - decision.at_ms).max(0.0));
        Line::from(vec![
            Span::styled(format!("{ago:>7} ago  "), dim()),
            Span::styled(format!("{:<8} ", decision.verdict), Style::new().fg(Color::Yellow)),
            Span::raw(format!("{}  {}: {}", decision.queue, decision.policy, decision.reason)),
        ])
    }));
    lines
}

/// `12345`, `123k`, `12.3M`.
fn count(value: f64) -> String {
    match value {
        value if value < 100_000.0 => format!("{value:.0}"),
        value if value < 1e6 => format!("{:.0}k", value / 1e3),
        value => format!("{:.1}M", value / 1e6),
    }
}

fn rate(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { count(value) }
}

/// Powers of 1024, as Redis counts.
fn bytes(value: f64) -> String {
    let units = ["B", "K", "M", "G", "T"];
    let (mut value, mut at) = (value, 0);
    while value >= 1000.0 && at + 1 < units.len() {
        (value, at) = (value / 1024.0, at + 1);
    }
    if at == 0 { format!("{value:.0}B") } else { format!("{value:.1}{}", units[at]) }
}

fn time(ms: f64) -> String {
    match ms {
        ms if ms <= 0.0 => "-".into(),
        ms if ms < 1_000.0 => format!("{ms:.0}ms"),
        ms if ms < 100_000.0 => format!("{:.1}s", ms / 1e3),
        ms if ms < 6_000_000.0 => format!("{:.0}m", ms / 6e4),
        ms if ms < 172_800_000.0 => format!("{:.1}h", ms / 3.6e6),
        ms => format!("{:.0}d", ms / 8.64e7),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_their_columns() {
        assert_eq!(
            ["99999", "100k", "1.2M"],
            [99_999.0, 100_400.0, 1_234_567.0].map(count).each_ref().map(String::as_str)
        );
        assert_eq!(
            ["0B", "1.0K", "1.5G"],
            [0.0, 1024.0, 1.5 * 1024.0_f64.powi(3)].map(bytes).each_ref().map(String::as_str)
        );
        assert_eq!(
            ["-", "5ms", "1.5s", "10m", "2.0h", "3d"],
            [0.0, 5.0, 1_500.0, 600_000.0, 7_200_000.0, 259_200_000.0].map(time).each_ref().map(String::as_str)
        );
        assert_eq!((bar(0.0, 4), bar(0.5, 4), bar(7.0, 4)), ("----".into(), "##--".into(), "####".into()));
    }
}
