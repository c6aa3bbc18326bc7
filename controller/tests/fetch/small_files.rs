//! Small files, which are held in memory: releases, indexes, signatures.

use super::*;

fn get(server: &Server, max: u64) -> Result<Vec<u8>, FetchError> {
    impatient().get_small(&format!("{}file", server.url()), max)
}

fn with(answer: Answer) -> Server {
    Server::new(&[("file", b"0123456789")], move |_| answer.clone())
}

#[test]
fn they_come_whole() {
    assert_eq!(get(&with(Answer::Right), 10).unwrap(), b"0123456789");
}

#[test]
fn what_is_wrong_is_said_with_the_url() {
    let other = with(Answer::Right);
    for (answer, wanted) in [
        (Answer::Status(404), "HTTP status 404"),
        (Answer::Status(500), "HTTP status 500"),
        (Answer::Status(503), "HTTP status 503"),
        (Answer::Hang, "no answer in time"),
        (Answer::HangAfter(4), "no answer in time"),
        (Answer::CutAfter(4), "file: "),
        (Answer::Redirect(other.url().replace("http:", "https:")), "redirected"),
        (Answer::Redirect("ftp://127.0.0.1:1/".into()), "file: "),
        (Answer::Redirect("file".into()), "too many redirects"),
    ] {
        let server = with(answer.clone());
        let error = get(&server, 10).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}file: ", server.url())), "{error}");
        assert!(error.contains(wanted), "{answer:?}: {error}");
    }
    let error = impatient().get_small(&format!("{}file", refused()), 10).unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    let error = impatient().get_small("http://no-such-name.invalid/file", 10).unwrap_err();
    assert!(matches!(error.problem, Problem::NoAddress | Problem::Timeout(_)), "{error}");
}

#[test]
fn a_redirect_on_the_same_server_is_followed() {
    let server = Server::new(&[("file", b"x"), ("there", b"found")], |r: &Request| {
        if r.path == "file" { Answer::Redirect("/there".into()) } else { Answer::Right }
    });
    assert_eq!(get(&server, 10).unwrap(), b"found");
}

#[test]
fn one_byte_too_many_is_refused() {
    let error = get(&with(Answer::Right), 9).unwrap_err();
    assert!(matches!(error.problem, Problem::TooLarge { max: 9 }), "{error}");
}
