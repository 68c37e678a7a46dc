//! JSON to [`Value`], noting every name that stands twice in one object. `serde_json` by itself takes
//! the last one and says nothing, while whoever is in front may have looked at the first.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::problem::Violations;

/// Beyond this many characters a name that the caller made up is cut when it is quoted back.
const LONGEST_QUOTE: usize = 64;

/// Reads `text`, which is JSON and nothing else.
///
/// # Errors
/// If it is not.
pub(super) fn read(text: &str, violations: &mut Violations) -> serde_json::Result<Value> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Reading { at: &At::Body, violations }.deserialize(&mut reader)?;
    reader.end().map(|()| value)
}

/// Where a value stands.
enum At<'a> {
    Body,
    Field(&'a At<'a>, &'a str),
    Item(&'a At<'a>, usize),
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body => Ok(()),
            Self::Item(array, index) => write!(f, "{array}[{index}]"),
            Self::Field(object, name) => {
                let end = name.char_indices().nth(LONGEST_QUOTE).map_or(name.len(), |(end, _)| end);
                let name = &name[..end];
                match object {
                    Self::Body => f.write_str(name),
                    Self::Item(..) => write!(f, "{object}.{name}"),
                    // An object in a field is a map, whose names the caller makes up.
                    Self::Field(..) => write!(f, "{object}[{name}]"),
                }
            }
        }
    }
}

struct Reading<'a> {
    at: &'a At<'a>,
    violations: &'a mut Violations,
}

impl<'de> DeserializeSeed<'de> for Reading<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let Self { at, violations } = self;
        let mut items = Vec::new();
        loop {
            let at = At::Item(at, items.len());
            match access.next_element_seed(Reading { at: &at, violations })? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let Self { at, violations } = self;
        let mut fields = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            let at = At::Field(at, &name);
            let value = access.next_value_seed(Reading { at: &at, violations })?;
            if fields.contains_key(&name) {
                // Spelling out a deep path for each of very many would be work for nothing.
                let field = if violations.is_full() { String::new() } else { at.to_string() };
                violations.add(field, "is given more than once");
            }
            fields.insert(name, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn repeated(text: &str) -> Vec<String> {
        let mut violations = Violations::default();
        read(text, &mut violations).unwrap();
        let refused = violations.into_result().err();
        let listed = refused.into_iter().flat_map(|problem| problem.violations);
        listed.map(|violation| violation.field).collect()
    }

    #[test]
    fn every_repeated_name_is_listed_by_its_path() {
        assert_eq!(repeated(r#"{"cost":1,"a":{"cost":2},"b":[{"cost":3},{"cost":4}]}"#), [""; 0]);
        assert_eq!(repeated(r#"{"cost":1,"cost":7}"#), ["cost"]);
        assert_eq!(repeated(r#"{"cost":1,"c\u006fst":7}"#), ["cost"], "spelt otherwise, and the same");
        let batch = r#"{"checks":[{},{"attributes":{"ip":"a","ip":"b"},"cost":1,"cost":1,"cost":1}]}"#;
        assert_eq!(repeated(batch), ["checks[1].attributes[ip]", "checks[1].cost", "checks[1].cost"]);
        let long = "ä".repeat(100);
        assert_eq!(repeated(&format!(r#"{{"{long}":1,"{long}":1}}"#)), ["ä".repeat(64)]);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_reads_what_serde_json_reads(value in any_json()) {
            let text = value.to_string();
            let mut violations = Violations::default();
            let plain: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read(&text, &mut violations).unwrap(), plain);
            prop_assert!(violations.into_result().is_ok());
        }
    }
}
