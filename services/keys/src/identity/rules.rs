//! Which passwords are taken.

use tidegate_chassis::error::Violations;

use crate::domain::Email;

const MIN_CHARS: usize = 12;
const MAX_CHARS: usize = 128;

/// Some that people are fond of, in lower case and long enough to pass otherwise.
const COMMON: &[&str] = &[
    "000000000000",
    "0123456789012",
    "012345678910",
    "1111111111111",
    "111111111111",
    "112233445566",
    "121212121212",
    "123123123123",
    "1234512345123",
    "123456123456",
    "1234567890123",
    "12345678901234",
    "123456789012345",
    "1234567890123456",
    "123456789012",
    "1234567890qwe",
    "1234567890qwerty",
    "123456789abc",
    "123456qwerty",
    "1q2w3e4r5t6y",
    "1q2w3e4r5t6y7u8i",
    "1qaz2wsx3edc",
    "1qaz2wsx3edc4rfv",
    "abc123abc123",
    "abcabcabcabc",
    "abcd12345678",
    "abcdefgh1234",
    "abcdefghijkl",
    "abcdefghijklmnop",
    "aaaaaaaaaaaa",
    "adminadminadmin",
    "administrator",
    "administrator1",
    "asdfasdfasdf",
    "asdfghjkl123",
    "asdfghjklqwertyuiop",
    "changeme1234",
    "changemechangeme",
    "changeme12345",
    "correcthorsebatterystaple",
    "footballfootball",
    "helloworld123",
    "iloveyou1234",
    "iloveyouiloveyou",
    "iloveyousomuch",
    "letmein123456",
    "letmeinletmein",
    "letmeinplease",
    "mypassword123",
    "passw0rd1234",
    "password1234",
    "password12345",
    "password123456",
    "password123!",
    "password1234!",
    "passwordpassword",
    "p@ssw0rd1234",
    "p@ssword1234",
    "qazwsxedcrfv",
    "qwerty123456",
    "qwerty1234567",
    "qwertyqwerty",
    "qwertyuiop12",
    "qwertyuiop123",
    "qwertyuiop[]",
    "qwertyuiopasdfghjkl",
    "secretsecret",
    "supersecret1",
    "test12345678",
    "testtesttest",
    "welcome12345",
    "welcomewelcome",
    "zxcvbnm12345",
];

/// Adds what is wrong with a new password of the account `email` to `violations`, as the field `field`.
pub(super) fn check(password: &str, email: &Email, field: &str, violations: &mut Violations) {
    let chars = password.chars().count();
    if !(MIN_CHARS..=MAX_CHARS).contains(&chars) {
        violations.add(field, format!("must be {MIN_CHARS} to {MAX_CHARS} characters"));
        return;
    }
    let lower = password.to_lowercase();
    if lower == email.as_str() {
        violations.add(field, "must not be the e-mail address");
    } else if COMMON.contains(&lower.as_str()) {
        violations.add(field, "is one of the most common ones");
    }
}

/// Whether it could be anybody's password: one that could not is refused before it is hashed.
pub(super) fn is_possible(password: &str) -> bool {
    (1..=MAX_CHARS).contains(&password.chars().count())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn fault(password: &str) -> Option<String> {
        let mut violations = Violations::default();
        let email = Email::parse("ada.lovelace@example.com").expect("an address");
        check(password, &email, "password", &mut violations);
        violations.iter().next().map(|violation| violation.description.clone())
    }

    #[rstest]
    #[case("elevenchars", Some("must be 12 to 128 characters"))]
    #[case("twelve chars", None)]
    #[case("zwölf Zeich.", None)]
    #[case("Ada.Lovelace@Example.com", Some("must not be the e-mail address"))]
    #[case("PassWord1234", Some("is one of the most common ones"))]
    fn a_password_is_long_and_neither_common_nor_the_address(
        #[case] password: &str,
        #[case] wanted: Option<&str>,
    ) {
        assert_eq!(fault(password).as_deref(), wanted);
    }

    #[test]
    fn length_is_counted_in_characters() {
        assert_eq!(fault(&"ü".repeat(128)), None);
        assert!(fault(&"ü".repeat(129)).is_some());
        assert!(is_possible("x") && !is_possible("") && !is_possible(&"x".repeat(129)));
    }

    #[test]
    fn common_ones_are_in_lower_case_and_would_be_long_enough() {
        for password in COMMON {
            assert_eq!(*password, password.to_lowercase());
        }
        let long = COMMON.iter().filter(|password| password.chars().count() >= MIN_CHARS).count();
        assert_eq!(long, COMMON.len());
    }
}
