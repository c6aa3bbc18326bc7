//! A file from a place on, and up to another.

use super::*;

fn open(answer: Answer, from: u64) -> Result<(Vec<u8>, Option<u64>), FetchError> {
    let server = Server::new(&[("file", b"0123456789")], move |_| answer.clone());
    let mut part = client().open_range(&format!("{}file", server.url()), from, None)?;
    let mut bytes = Vec::new();
    part.stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(part.validator.as_deref(), Some("\"10\""));
    Ok((bytes, part.total))
}

#[test]
fn they_start_where_they_were_asked_to() {
    for answer in [Answer::Right, Answer::IgnoreRange] {
        for from in [0, 1, 7, 9] {
            let wanted = (b"0123456789"[from..].to_vec(), Some(10));
            assert_eq!(open(answer.clone(), from as u64).unwrap(), wanted, "{answer:?} {from}");
        }
    }
}

#[test]
fn another_range_is_an_error() {
    let error = open(Answer::WrongRange, 5).unwrap_err();
    assert!(matches!(error.problem, Problem::Range(_)), "{error}");
    assert!(error.to_string().contains("bytes 4-8/10"), "{error}");
}

#[test]
fn a_status_is_an_error() {
    let error = open(Answer::Status(503), 5).unwrap_err();
    assert!(matches!(error.problem, Problem::Status(503)), "{error}");
}
