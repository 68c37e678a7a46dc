//! Statements and values that mean the same in both databases.

use uuid::Uuid;

use super::error::stored;

/// A statement. Tables are named `keys.users`: that is schema and table in PostgreSQL, and becomes `keys_users` in SQLite.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sql {
    pub(super) postgres: &'static str,
    pub(super) sqlite: &'static str,
}

/// Puts `_` for the dot after each word `keys`.
pub(super) const fn for_sqlite<const N: usize>(sql: &str) -> [u8; N] {
    let bytes = sql.as_bytes();
    let mut out = [0; N];
    let mut at = 0;
    while at < N {
        out[at] = bytes[at];
        if at >= 5 && bytes[at] == b'.' && ends_in_schema(bytes, at) {
            out[at] = b'_';
        }
        at += 1;
    }
    out
}

const fn ends_in_schema(bytes: &[u8], end: usize) -> bool {
    let before = bytes[end - 5];
    !before.is_ascii_alphanumeric()
        && before != b'_'
        && bytes[end - 4] == b'k'
        && bytes[end - 3] == b'e'
        && bytes[end - 2] == b'y'
        && bytes[end - 1] == b's'
}

/// Declares statements, each for both databases or with a text for either, and `ALL` of them.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:tt;)+) => {
        $($(#[$doc])* pub(super) const $name: $crate::store::sql::Sql = $crate::store::sql::statements!(@ $sql);)+

        /// Every one, with its name.
        #[cfg(test)]
        pub(super) const ALL: &[(&str, $crate::store::sql::Sql)] = &[$((stringify!($name), $name)),+];
    };
    (@ ($($part:expr),+ $(,)?)) => {{
        const TEXT: &str = concat!($($part),+);
        const BYTES: [u8; TEXT.len()] = $crate::store::sql::for_sqlite(TEXT);
        let Ok(sqlite) = str::from_utf8(&BYTES) else { panic!("one ASCII character was put for another") };
        $crate::store::sql::Sql { postgres: TEXT, sqlite }
    }};
    (@ { postgres: $postgres:expr, sqlite: $sqlite:expr $(,)? }) => {
        $crate::store::sql::Sql { postgres: $postgres, sqlite: $sqlite }
    };
}
pub(super) use statements;

/// What is bound to a statement.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Id(Option<Uuid>),
    Number(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    Flag(bool),
}

/// A list of [`Value`]s.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::store::sql::Value::from($value)),*] };
}
pub(super) use values;

macro_rules! into_value {
    ($($from:ty => |$value:ident| $into:expr),+ $(,)?) => {
        $(impl From<$from> for Value {
            fn from($value: $from) -> Self {
                $into
            }
        })+
    };
}

into_value!(
    Uuid => |id| Self::Id(Some(id)),
    Option<Uuid> => |id| Self::Id(id),
    i64 => |number| Self::Number(Some(number)),
    u64 => |number| Self::Number(Some(stored(number))),
    u32 => |number| Self::Number(Some(i64::from(number))),
    u16 => |number| Self::Number(Some(i64::from(number))),
    Option<u64> => |number| Self::Number(number.map(stored)),
    &str => |text| Self::Text(Some(text.to_owned())),
    &String => |text| Self::Text(Some(text.clone())),
    String => |text| Self::Text(Some(text)),
    Option<&str> => |text| Self::Text(text.map(str::to_owned)),
    &Option<String> => |text| Self::Text(text.clone()),
    &[u8] => |bytes| Self::Bytes(Some(bytes.to_vec())),
    &Vec<u8> => |bytes| Self::Bytes(Some(bytes.clone())),
    Vec<u8> => |bytes| Self::Bytes(Some(bytes)),
    &[u8; 32] => |bytes| Self::Bytes(Some(bytes.to_vec())),
    bool => |flag| Self::Flag(flag),
);

/// How `LIKE … ESCAPE '\'` finds `search` anywhere in a text in lower case; none if no text has it in it.
pub(super) fn pattern(search: &str) -> Option<String> {
    // PostgreSQL has no texts with it, and refuses it.
    if search.contains('\0') {
        return None;
    }
    let mut pattern = String::from("%");
    for character in search.to_ascii_lowercase().chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    Some(pattern)
}

/// What binds [`Value`]s and reads cells with the types of one database.
macro_rules! dialect {
    ($database:ty, $arguments:ty, $row:ty, $text:ident) => {
        fn bound(
            sql: $crate::store::sql::Sql,
            values: Vec<$crate::store::sql::Value>,
        ) -> sqlx::query::Query<'static, $database, $arguments> {
            use $crate::store::sql::Value;
            values.into_iter().fold(sqlx::query(sql.$text), |query, value| match value {
                Value::Id(id) => query.bind(id),
                Value::Number(number) => query.bind(number),
                Value::Text(text) => query.bind(text),
                Value::Bytes(bytes) => query.bind(bytes),
                Value::Flag(flag) => query.bind(flag),
            })
        }

        impl $crate::store::cells::Row for $row {
            fn id(&self, index: usize) -> Result<Option<uuid::Uuid>, sqlx::Error> {
                sqlx::Row::try_get(self, index)
            }

            fn number(&self, index: usize) -> Result<Option<i64>, sqlx::Error> {
                sqlx::Row::try_get(self, index)
            }

            fn text(&self, index: usize) -> Result<Option<String>, sqlx::Error> {
                sqlx::Row::try_get(self, index)
            }

            fn bytes(&self, index: usize) -> Result<Option<Vec<u8>>, sqlx::Error> {
                sqlx::Row::try_get(self, index)
            }

            fn flag(&self, index: usize) -> Result<Option<bool>, sqlx::Error> {
                sqlx::Row::try_get(self, index)
            }
        }
    };
}
pub(super) use dialect;
