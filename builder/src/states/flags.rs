//! The flags about saved runs.

/// As the command line has them.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Flags {
    /// With another command: save flags and configuration as the state NAME, before they are used. Alone: ? lists the states,
    /// -N deletes the one with number N
    #[arg(long, value_name = "NAME|?|-N", allow_hyphen_values = true)]
    pub time_state: Option<String>,
    /// Run the saved state N again, given by its number or name; the only flag then, beside --local
    #[arg(long, value_name = "N", group = "action")]
    pub time_warp: Option<String>,
    /// Edit the configuration of the saved state N, which is then checked
    #[arg(long, value_name = "N", group = "action")]
    pub edit: Option<String>,
}

/// What `--time-state` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// `?`
    List,
    /// `-N`
    Delete(String),
    /// Anything else is a name.
    Save(String),
}

impl Flags {
    /// What `--time-state` asks for, if it is there.
    pub fn wish(&self) -> Option<Wish> {
        let text = self.time_state.as_deref()?;
        Some(match text.strip_prefix('-') {
            _ if text == "?" => Wish::List,
            Some(number) => Wish::Delete(number.to_owned()),
            None => Wish::Save(text.to_owned()),
        })
    }

    /// Whether these flags are something to do by themselves.
    pub fn is_alone(&self) -> bool {
        matches!(self.wish(), Some(Wish::List | Wish::Delete(_)))
    }
}
