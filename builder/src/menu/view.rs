//! Draws the menu.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Block, Clear, Gauge, List, ListItem, ListState, Paragraph, Wrap},
};

use super::{
    job::{End, Job},
    model::{Model, Over},
};

/// How things look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    colours: bool,
}

impl Palette {
    /// Without colours if `NO_COLOR` is set and not empty (<https://no-color.org>).
    pub fn new(no_color: Option<&str>) -> Self {
        Self { colours: no_color.is_none_or(str::is_empty) }
    }

    fn title(self) -> Style {
        self.with(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn command(self) -> Style {
        self.with(Color::Green)
    }

    fn bad(self) -> Style {
        self.with(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn with(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }
}

const KEYS: &str = "\
Up, Down, k, j        move
PgUp, PgDn, g, G      move further, to the first, to the last
Enter, Right, l       choose
Esc, Left, h          back
/                     search; n goes on
q                     back, and at last quits
?                     this help

While something runs: the same keys scroll its log, q asks whether to
stop it. The last line but one is always the command that a choice
stands for: type it in a shell to do the same.";

/// Draws all of it.
pub fn draw(model: &Model, palette: Palette, frame: &mut Frame<'_>) {
    let [top, body, about, command, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let titles: Vec<&str> = model.levels.iter().map(|level| level.title.as_str()).collect();
    let title = format!("GSE {}  {}", env!("CARGO_PKG_VERSION"), titles.join(" > "));
    frame.render_widget(Line::styled(title, palette.title()), top);
    frame.render_widget(Line::from(model.host.as_str()).right_aligned(), top);
    list(model, palette, frame, body);
    let text = model.selected().map(|item| item.about.as_str()).unwrap_or_default();
    frame.render_widget(Line::from(text), about);
    let line = model.command_line();
    if !line.is_empty() {
        frame.render_widget(Line::styled(format!("$ {line}"), palette.command()), command);
    }
    frame.render_widget(Line::from(hint(model)), keys);
    match &model.over {
        None | Some(Over::Search(_)) => {}
        Some(Over::Help) => popup(frame, body, "Keys", KEYS, 0),
        Some(Over::Text(text, top)) => popup(frame, body, "", text, *top),
        Some(Over::Ask(question, typed)) => {
            popup(frame, body, question.prompt, &format!("{typed}_"), 0);
        }
        Some(Over::Job(job) | Over::Stop(job)) => {
            show_job(job, palette, frame, body.union(about).union(command));
        }
    }
}

fn hint(model: &Model) -> String {
    match &model.over {
        None => "Enter choose  q back  / search  ? help".to_owned(),
        Some(Over::Search(typed)) => format!("/{typed}_"),
        Some(Over::Help | Over::Text(..)) => "any key goes back".to_owned(),
        Some(Over::Ask(..)) => "Enter runs it  Esc goes back".to_owned(),
        Some(Over::Stop(_)) => "stop what runs? y/n".to_owned(),
        Some(Over::Job(job)) => match job.end {
            None => "j k scroll  q stop".to_owned(),
            Some(_) => "j k scroll  q back".to_owned(),
        },
    }
}

fn list(model: &Model, palette: Palette, frame: &mut Frame<'_>, area: Rect) {
    let Some(level) = model.level() else { return };
    if level.items.is_empty() {
        let text = "There is nothing here: name a configuration with --config, beside -mm.";
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
        return;
    }
    let items = level.items.iter().map(|item| ListItem::new(item.label.as_str()));
    let list = List::new(items)
        .highlight_symbol("> ")
        .highlight_style(palette.selected())
        .block(Block::bordered());
    let mut state = ListState::default().with_selected(Some(level.selected));
    frame.render_stateful_widget(list, area, &mut state);
}

fn popup(frame: &mut Frame<'_>, area: Rect, title: &str, text: &str, top: usize) {
    let inside = Rect {
        x: area.x + 2,
        y: area.y + 1,
        width: area.width.saturating_sub(4),
        height: area.height.saturating_sub(2),
    };
    let inside = inside.intersection(frame.area());
    frame.render_widget(Clear, inside);
    let scroll = (u16::try_from(top).unwrap_or(u16::MAX), 0);
    let paragraph = Paragraph::new(text).wrap(Wrap { trim: false }).scroll(scroll);
    frame.render_widget(paragraph.block(Block::bordered().title(title)), inside);
}

fn show_job(job: &Job, palette: Palette, frame: &mut Frame<'_>, area: Rect) {
    frame.render_widget(Clear, area);
    let [command, log, state] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)])
            .areas(area);
    frame.render_widget(Line::styled(format!("$ {}", job.line), palette.command()), command);
    let height = usize::from(log.height);
    let end = job.log.len().saturating_sub(job.scrolled);
    let start = end.saturating_sub(height);
    let lines: Vec<Line<'_>> = job
        .log
        .iter()
        .skip(start)
        .take(end - start)
        .map(|line| Line::from(line.as_str()))
        .collect();
    frame.render_widget(Paragraph::new(lines), log);
    match (job.end, job.progress()) {
        (Some(End::Well), _) => {
            frame.render_widget(Line::styled("done", palette.title()), state);
        }
        (Some(End::Failed(code)), _) => {
            let text = format!("ended with {code}: what it said last is above");
            frame.render_widget(Line::styled(text, palette.bad()), state);
        }
        (Some(End::Stopped), _) => {
            frame.render_widget(Line::styled("stopped", palette.bad()), state);
        }
        (None, Some((at, of, name))) => {
            // A step that runs is not done.
            let ratio = (at.saturating_sub(1)) as f64 / of.max(1) as f64;
            let gauge = Gauge::default()
                .ratio(ratio.clamp(0.0, 1.0))
                .label(format!("{at}/{of} {name}"))
                .gauge_style(palette.command());
            frame.render_widget(gauge, state);
        }
        (None, None) => frame.render_widget(Line::from("runs"), state),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend, style::Color};

    use super::*;
    use crate::menu::{
        entries::{Setting, main},
        model::Key,
    };

    fn model() -> Model {
        let setting = Setting { bases: vec!["precomp".to_owned()], ..Setting::default() };
        Model::new(main(&setting), "host: not Gentoo".to_owned())
    }

    fn screen(model: &Model, no_color: Option<&str>, (width, height): (u16, u16)) -> TestBackend {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(model, Palette::new(no_color), frame)).unwrap();
        terminal.backend().clone()
    }

    #[test]
    fn every_size_is_drawn_and_80x24_shows_everything() {
        let mut model = model();
        for size in [(1, 1), (10, 3), (80, 24), (200, 60)] {
            for over in [None, Some(Over::Help), Some(Over::Search("x".to_owned()))] {
                model.over = over;
                screen(&model, None, size);
            }
        }
        model.over = None;
        let shown = screen(&model, None, (80, 24)).to_string();
        for text in ["host: not Gentoo", "> Build a system", "Terminal", "Quit", "/ search"] {
            assert!(shown.contains(text), "{text}:\n{shown}");
        }
    }

    #[test]
    fn a_job_shows_its_command_its_log_and_how_far_it_is() {
        let mut model = model();
        (0..3).for_each(|_| drop(model.update(Key::Enter)));
        model.printed(b"Updating Portage\n");
        let shown = screen(&model, None, (80, 24)).to_string();
        assert!(
            shown.contains("$ gse --base=precomp") && shown.contains(" Updating Portage"),
            "{shown}"
        );
        model.ended(End::Failed(1));
        assert!(screen(&model, None, (80, 24)).to_string().contains("ended with 1"));
    }

    #[test]
    fn without_colours_there_are_none() {
        let coloured = |no_color| {
            let backend = screen(&model(), no_color, (80, 24));
            backend.buffer().content().iter().any(|cell| cell.fg != Color::Reset)
        };
        assert!(coloured(None) && coloured(Some("")) && !coloured(Some("1")));
    }
}
