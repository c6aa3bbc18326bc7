//! Keys, and what they do.

use super::*;
use crate::menu::entries::{Setting, main};

fn model() -> Model {
    let setting = Setting {
        carried: vec!["--quiet".to_owned()],
        bases: vec!["precomp".to_owned()],
        ..Setting::default()
    };
    Model::new(main(&setting), "Gentoo".to_owned())
}

fn press(model: &mut Model, keys: &str) -> Effect {
    let key = |c| match c {
        '\n' => Key::Enter,
        '\u{1b}' => Key::Escape,
        c => Key::Char(c),
    };
    keys.chars().map(key).fold(Effect::None, |_, key| model.update(key))
}

#[test]
fn arrows_and_vi_keys_move_and_the_ends_hold() {
    let mut model = model();
    model.update(Key::Up);
    assert_eq!(model.level().unwrap().selected, 0);
    press(&mut model, "jjk");
    assert_eq!(model.selected().unwrap().label, "Configuration files");
    press(&mut model, "G");
    assert_eq!(model.selected().unwrap().label, "Quit");
    model.update(Key::Down);
    assert_eq!(press(&mut model, "\n"), Effect::Quit);
}

#[test]
fn a_choice_shows_its_command_line_and_carries_the_flags_of_mm() {
    let mut model = model();
    press(&mut model, "\n\n");
    assert_eq!(model.command_line(), "gse --base=precomp --quiet");
    let Effect::Start(arguments) = press(&mut model, "\n") else { unreachable!() };
    assert_eq!(arguments, ["--base=precomp", "--quiet"]);
}

#[test]
fn a_question_shows_the_command_while_it_is_typed() {
    let mut model = model();
    press(&mut model, "/releases\n\nj\n20");
    assert_eq!(model.command_line(), "gse --default=20");
    assert_eq!(press(&mut model, "6\n"), Effect::Start(vec!["--default=206".to_owned()]));
}

#[test]
fn q_goes_back_and_quits_at_last() {
    let mut model = model();
    press(&mut model, "\n\n");
    assert_eq!(model.levels.len(), 3);
    assert_eq!(press(&mut model, "qq"), Effect::None);
    assert_eq!(press(&mut model, "q"), Effect::Quit);
}

#[test]
fn a_search_selects_as_it_is_typed_and_n_goes_on() {
    let mut model = model();
    press(&mut model, "/shell\n");
    assert_eq!(model.selected().unwrap().label, "Terminal");
    press(&mut model, "g/co\u{1b}");
    let first = model.level().unwrap().selected;
    press(&mut model, "/co\nn");
    assert_ne!(model.level().unwrap().selected, first);
}

#[test]
fn what_runs_is_stopped_only_after_a_question() {
    let mut model = model();
    press(&mut model, "\n\n\n");
    model.printed(b"Updating Portage\n");
    assert_eq!(press(&mut model, "q"), Effect::None);
    assert!(matches!(model.over, Some(Over::Stop(_))));
    assert_eq!(press(&mut model, "n"), Effect::None);
    assert_eq!(press(&mut model, "qy"), Effect::Stop);
    model.ended(End::Stopped);
    assert!(matches!(&model.over, Some(Over::Job(job)) if job.end.is_some()));
    press(&mut model, "q");
    assert_eq!(model.over, None);
}

#[test]
fn what_was_published_meanwhile_is_in_the_menu_that_is_shown() {
    let mut model = model();
    press(&mut model, "/saved runs\n\nj");
    let states = vec!["spring".to_owned()];
    model.refresh(main(&Setting { states, ..Setting::default() }));
    assert_eq!(model.selected().unwrap().label, "Run again");
    press(&mut model, "\n");
    assert_eq!(model.selected().unwrap().label, "spring");
    assert_eq!(press(&mut model, "\n"), Effect::Terminal(vec!["--time-warp=spring".to_owned()]));
}

#[test]
fn states_that_need_the_terminal_get_it() {
    let mut model = model();
    press(&mut model, "/saved runs\n\nj\n1");
    assert_eq!(press(&mut model, "\n"), Effect::Terminal(vec!["--time-warp=1".to_owned()]));
}

#[test]
fn what_all_machines_would_see_is_done_after_a_question_alone() {
    let mut model = model();
    press(&mut model, "/controller\n\n/publish\n");
    assert_eq!(press(&mut model, "\n"), Effect::None);
    assert_eq!(model.command_line(), "gse --publish-config");
    assert_eq!(press(&mut model, "n"), Effect::None);
    assert_eq!(model.over, None);
    assert_eq!(press(&mut model, "\ny"), Effect::Start(vec!["--publish-config".to_owned()]));
}

#[test]
fn what_would_be_removed_is_shown_before_it_is_offered() {
    let mut model = model();
    press(&mut model, "/what is published\n\nG");
    assert_eq!(model.command_line(), "gse --prune && gse --prune --force");
    assert_eq!(press(&mut model, "\n"), Effect::Start(vec!["--prune".to_owned()]));
    // Not before it was shown.
    assert_eq!(press(&mut model, "y"), Effect::None);
    model.ended(End::Well);
    let force = ["--prune", "--force"].map(str::to_owned).to_vec();
    assert_eq!(press(&mut model, "y"), Effect::Start(force));
    model.ended(End::Well);
    assert_eq!(press(&mut model, "y"), Effect::None);
}

#[test]
fn what_failed_inside_can_be_run_in_the_terminal() {
    let mut model = model();
    press(&mut model, "\n\n\n");
    assert_eq!(press(&mut model, "t"), Effect::None);
    model.ended(End::Failed(1));
    let arguments = ["--base=precomp", "--quiet"].map(str::to_owned).to_vec();
    assert_eq!(press(&mut model, "t"), Effect::Terminal(arguments));
    assert_eq!(model.over, None);
}
