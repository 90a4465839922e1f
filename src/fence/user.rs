//! A user as it is written, `NAME|UID[:GID]`, and its numbers.

use std::ffi::CString;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr;
use std::str::FromStr;

use super::FenceError;

/// What the kernel takes for "no such number".
const NONE: u32 = u32::MAX;

/// The user who owns nothing, where no name says who that is.
const NOBODY: Ids = Ids { uid: 65_534, gid: 65_534 };

/// Longest record of a user that is read.
const LONGEST: usize = 1 << 20;

/// Whom to go on as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    name: String,
    gid: Option<u32>,
}

/// A user and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// The user.
    pub uid: u32,
    /// Its only group.
    pub gid: u32,
}

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

/// Why a text is not a [`User`].
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the name or number of a user, perhaps with the number of a group behind it, like nobody or nobody:65534")]
pub struct ParseUserError;

debug_as_display!(ParseUserError);

impl FromStr for User {
    type Err = ParseUserError;

    fn from_str(text: &str) -> Result<Self, ParseUserError> {
        let (name, gid) = match text.split_once(':') {
            Some((name, gid)) => (name, Some(number(gid).ok_or(ParseUserError)?)),
            None => (text, None),
        };
        let digits = name.bytes().all(|octet| octet.is_ascii_digit() || octet == b'+');
        if name.is_empty() || name.contains('\0') || (digits && number(name).is_none()) {
            return Err(ParseUserError);
        }
        Ok(Self { name: name.to_owned(), gid })
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number != NONE)
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.gid {
            Some(gid) => write!(f, "{}:{gid}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl User {
    /// The numbers behind it. The group is, where none was named, the user's own, and that of a number that no user
    /// has the same number.
    pub(super) fn ids(&self) -> Result<Ids, FenceError> {
        let found = match number(&self.name) {
            Some(uid) => Some(by_number(uid).unwrap_or(Ids { uid, gid: uid })),
            None => by_name(&self.name),
        };
        let ids = found.ok_or_else(|| FenceError::NoUser(self.name.clone()))?;
        Ok(Ids { gid: self.gid.unwrap_or(ids.gid), ..ids })
    }

    /// Those of the user who owns nothing.
    pub(super) fn nobody() -> Ids {
        by_name("nobody").unwrap_or(NOBODY)
    }
}

fn by_name(name: &str) -> Option<Ids> {
    let name = CString::new(name).ok()?;
    // SAFETY: a string with its end, and room for the record as `record` has it.
    record(|entry, buffer, len, found| unsafe { libc::getpwnam_r(name.as_ptr(), entry, buffer, len, found) })
}

fn by_number(uid: u32) -> Option<Ids> {
    // SAFETY: room for the record as `record` has it.
    record(|entry, buffer, len, found| unsafe { libc::getpwuid_r(uid, entry, buffer, len, found) })
}

/// Asks with more and more room for the record's texts. `None`: there is no such user, or nobody who would know.
fn record(
    ask: impl Fn(*mut libc::passwd, *mut libc::c_char, usize, *mut *mut libc::passwd) -> libc::c_int,
) -> Option<Ids> {
    let mut texts = vec![0; 1_024];
    loop {
        let mut entry = MaybeUninit::uninit();
        let mut found = ptr::null_mut();
        match ask(entry.as_mut_ptr(), texts.as_mut_ptr(), texts.len(), &raw mut found) {
            0 if found.is_null() => return None,
            0 => {
                // SAFETY: the call says that it has filled the record.
                let entry = unsafe { entry.assume_init_ref() };
                return Some(Ids { uid: entry.pw_uid, gid: entry.pw_gid });
            }
            libc::ERANGE if texts.len() < LONGEST => texts.resize(texts.len() * 2, 0),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn users_are_names_or_numbers_with_a_group_or_without() {
        for text in ["nobody", "65534", "0", "www-data:33", "12:34"] {
            assert_eq!(text.parse::<User>().unwrap().to_string(), text);
        }
        for text in
            ["", ":1", "a:", "a:b", "1:-1", "4294967295", "1:4294967295", "99999999999", "a:1:2", "a\0b", "+5", "1:+5"]
        {
            assert_eq!(text.parse::<User>(), Err(ParseUserError), "{text}");
        }
    }

    #[test]
    fn a_group_is_the_one_named_or_the_users_own() {
        let ids = |text: &str| text.parse::<User>().unwrap().ids().map_err(|error| error.to_string());
        assert_eq!(ids("root"), Ok(Ids { uid: 0, gid: 0 }));
        assert_eq!(ids("root:7"), Ok(Ids { uid: 0, gid: 7 }));
        assert_eq!(ids("0"), Ok(Ids { uid: 0, gid: 0 }));
        // A number that no user has.
        assert_eq!(ids("4000000007"), Ok(Ids { uid: 4_000_000_007, gid: 4_000_000_007 }));
        assert!(ids("nobody-of-this-name").unwrap_err().contains("nobody-of-this-name"));
    }
}
