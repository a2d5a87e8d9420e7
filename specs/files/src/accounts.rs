//! Accounts: users and groups by the texts of `/etc/passwd` and `/etc/group` (passwd(5), group(5)). Pure.
//!
//! Only what these files say: users of a directory service have no say in a system's own groups.

/// Groups below this number are the system's own, made by packages (`SYS_GID_MAX` in login.defs(5)).
const FIRST_USERS_GID: u32 = 1000;

/// The number of a user.
pub fn user_id(passwd: &str, name: &str) -> Option<u32> {
    records(passwd).find(|fields| fields.first() == Some(&name)).and_then(|fields| fields.get(2)?.parse().ok())
}

/// Whether a group is the system's own and nobody is in it: neither its list nor any user's own group names one. Debian's
/// `staff`, which may write below `/usr/local`, is such a group until an administrator puts somebody in.
pub fn is_empty_group(group: &str, passwd: &str, gid: u32) -> bool {
    let number = gid.to_string();
    let has_number = |fields: &Vec<&str>, at: usize| fields.get(at) == Some(&number.as_str());
    let mut same = records(group).filter(|fields| has_number(fields, 2)).peekable();
    let is_known = gid < FIRST_USERS_GID && same.peek().is_some();
    is_known
        && same.all(|fields| fields.get(3).is_some_and(|members| members.trim().is_empty()))
        && !records(passwd).any(|fields| has_number(&fields, 3))
}

fn records(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33::/var/www:/bin/sh\n\
                          nvidia-persistenced:x:104:110:x:/nonexistent:/usr/sbin/nologin\nbroken\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:\nadm:x:4:syslog,alice\nwww-data:x:33:\nalice:x:1000:\ntwice:x:60:\n\
                         twice2:x:60:bob\nshort:x:70\n";

    #[test]
    fn users_by_name() {
        assert_eq!(user_id(PASSWD, "nvidia-persistenced"), Some(104));
        for name in ["nvidia", "", "broken", "x"] {
            assert_eq!(user_id(PASSWD, name), None, "{name}");
        }
    }

    #[test]
    fn groups_that_nobody_is_in() {
        assert!(is_empty_group(GROUP, PASSWD, 50));
        // With a member, with a user whose own group it is, of users, under two names, malformed, unknown.
        for gid in [4, 33, 1000, 60, 70, 71] {
            assert!(!is_empty_group(GROUP, PASSWD, gid), "{gid}");
        }
    }
}
