//! The language by tables, and the bounds by hostile expressions.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn evaluate(source: &str) -> Result<bool, String> {
    let object = json!({
        "kind": "Boat",
        "metadata": {"name": "web", "generation": 3, "labels": {"a.b/c": "d"}},
        "spec": {"replicas": 2, "ratio": 0.5, "names": ["a", "b"], "none": null},
        "status": {
            "phase": "Sailing",
            "observedGeneration": 3,
            "since": "2024-05-01T10:00:00Z",
            "conditions": [
                {"type": "Ready", "status": "True", "observedGeneration": 3},
                {"type": "Synced", "status": "False", "reason": "Später"},
            ],
        },
    });
    let expression = Expression::parse(source).map_err(|error| error.to_string())?;
    expression
        .evaluate(object.as_object().unwrap())
        .map_err(|error| error.to_string())
}

#[track_caller]
fn holds(sources: &[&str]) {
    for source in sources {
        assert_eq!(evaluate(source), Ok(true), "{source}");
    }
}

#[track_caller]
fn fails(cases: &[(&str, &str)]) {
    for (source, error) in cases {
        assert_eq!(evaluate(source), Err((*error).to_owned()), "{source}");
    }
}

#[test]
fn cel_operators_table() {
    holds(&[
        "true",
        "!false",
        "!!true",
        "1 + 2 * 3 == 7",
        "(1 + 2) * 3 == 9",
        "7 / 2 == 3 && 7 % 4 == 3 && -7 / 2 == -3",
        "10 - 3 - 2 == 5",
        "-9223372036854775808 < 0",
        "0x1F == 31 && 1.5e3 == 1500.0 && .5 == 0.5 && 2u == 2u",
        "1 == 1.0 && 1u == 1 && 2 > 1.5 && 1 < 2u",
        "1 != 'a' && !(null == false)",
        "'a' < 'b' && 'a' + 'b' == 'ab'",
        "[1] + [2] == [1, 2]",
        "1 in [1, 2] && !(3 in [1, 2]) && 'phase' in status",
        "spec.replicas > 1 ? true : false",
        "false ? false : true ? true : false",
        "{'a': 1, 'b': 2}['b'] == 2",
        "{'a': [1]} == {'a': [1.0]}",
        "'\\u00e4\\x41\\101\\n' == \"äAA\\n\"",
        "r'\\d' == '\\\\d'",
        "'''it's\nlong''' == \"it's\\nlong\"",
        "// a remark\n  true",
        ".kind == 'Boat'",
        "spec.none == null && has(spec.none)",
    ]);
}

#[test]
fn cel_failures_are_absorbed_by_a_decision() {
    holds(&[
        "true || status.missing",
        "status.missing || true",
        "!(status.missing && false)",
        "!(false && status.missing)",
        "[1, 2].exists(e, e == 2 || status.missing)",
        "!['a', 'b'].all(e, e == 'b' && status.missing)",
    ]);
    fails(&[
        ("status.missing || false", "status has no field `missing`"),
        ("true && status.missing", "status has no field `missing`"),
        (
            "[1].all(e, status.missing)",
            "status has no field `missing`",
        ),
    ]);
}

#[test]
fn cel_fields_table() {
    holds(&[
        "status.phase == 'Sailing' && status['phase'] == 'Sailing'",
        "metadata.generation == status.observedGeneration",
        "metadata.labels['a.b/c'] == 'd' && metadata.labels.`a.b/c` == 'd'",
        "status.conditions[0].type == 'Ready'",
        "has(status.phase) && !has(status.ready)",
        "status.?phase.orValue('') == 'Sailing'",
        "status.?ready.orValue('x') == 'x'",
        "status.?ready.deeper.?deepest.hasValue() == false",
        "status.?ready[0].orValue(1) == 1",
        "status.conditions[?5].hasValue() == false",
        "optional.of(1).or(optional.of(2)).value() == 1",
        "optional.none().or(optional.of(2)).value() == 2",
        "optional.ofNonZeroValue('').orValue('a') == 'a'",
        "status.?conditions.orValue([]).size() == 2",
        // An alternative that is not needed is not evaluated.
        "status.?phase.orValue(status.missing) == 'Sailing'",
        "status.?phase.or(status.missing).value() == 'Sailing'",
    ]);
    fails(&[
        ("statuss.phase == 'a'", "the object has no field `statuss`"),
        ("status.ready == 'a'", "status has no field `ready`"),
        (
            "status.phase.deeper",
            "status.phase is no map, and has no field `deeper`",
        ),
        ("status.conditions[2].type == 'a'", "there is no element 2"),
        ("metadata.labels['x'] == 'a'", "there is no key \"x\""),
        (
            "status.conditions[0].reason == ''",
            "there is no field `reason`",
        ),
        (
            "status.phase",
            "its result is not true or false, but of type string",
        ),
        ("1 / 0 == 1", "the result of / is out of range"),
        (
            "9223372036854775807 + 1 > 0",
            "the result of + is out of range",
        ),
        ("1 + 1.0 == 2.0", "+ does not take int and double"),
        ("'a' < 1", "string and int have no order"),
        ("!status.phase", "! does not take string"),
    ]);
}

#[test]
fn cel_macros_table() {
    holds(&[
        "status.conditions.exists(e, e.type == 'Ready' && e.status == 'True')",
        "status.conditions.filter(e, e.type == 'Ready').all(e, e.status == 'True')",
        "status.conditions.exists_one(e, e.status == 'True')",
        "status.conditions.existsOne(e, has(e.reason))",
        "status.conditions.map(e, e.type) == ['Ready', 'Synced']",
        "status.conditions.map(e, has(e.reason), e.type) == ['Synced']",
        "[].all(e, false) && ![].exists(e, true)",
        "metadata.labels.exists(key, key.startsWith('a.'))",
        "[[1], [2, 3]].all(row, row.exists(e, e in row))",
    ]);
}

#[test]
fn cel_functions_table() {
    holds(&[
        "size('Später') == 6 && 'Später'.size() == 6 && size(status.conditions) == 2",
        "status.phase.startsWith('Sail') && status.phase.endsWith('ing') && status.phase.contains('il')",
        "status.phase.matches('^S.*g$') && matches('abc', 'b')",
        "'a_1'.matches('^\\\\w+$') && '1.20.3'.matches(r'^\\d+\\.\\d+\\.\\d+$') && 'a b'.matches(r'\\bb\\b')",
        "'hello'.charAt(1) == 'e' && 'hello'.charAt(5) == ''",
        "'Später'.indexOf('t') == 3 && 'abab'.indexOf('a', 1) == 2 && 'abab'.lastIndexOf('a') == 2 && 'a'.indexOf('b') == -1",
        "'aBc'.lowerAscii() == 'abc' && 'aBc'.upperAscii() == 'ABC' && ' a '.trim() == 'a'",
        "'aaa'.replace('a', 'b') == 'bbb' && 'aaa'.replace('a', 'b', 2) == 'bba'",
        "'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c'] && 'ab'.split('') == ['a', 'b']",
        "['a', 'b'].join('-') == 'a-b' && spec.names.join() == 'ab'",
        "'hello'.substring(2) == 'llo' && 'hello'.substring(1, 3) == 'el'",
        "string(1) == '1' && int('2') == 2 && double('0.5') == spec.ratio && int(2.9) == 2 && uint(3) == 3u",
        "bool('true') && dyn(true) && string(true) == 'true' && double(1) == 1.0",
        "['1', 't', 'T', 'TRUE', 'true', 'True'].all(e, bool(e))",
        "['0', 'f', 'F', 'FALSE', 'false', 'False'].all(e, !bool(e))",
        "timestamp(status.since) < timestamp('2024-05-01T10:00:01Z')",
        "timestamp('2024-05-01T10:30:00Z') - timestamp(status.since) == duration('30m')",
        "timestamp(status.since) + duration('1h') > timestamp(status.since)",
        "sets.contains([1, 2, 3], [2]) && sets.intersects([1], [1, 2]) && sets.equivalent([1, 2], [2, 1, 1])",
    ]);
    fails(&[
        ("int('a') == 1", "int() cannot read \"a\""),
        ("bool('yes')", "bool() cannot read \"yes\""),
        ("size(1) == 1", "size() does not take int"),
        ("'a'.substring(2) == ''", "the index is outside the text"),
        (
            "'abc'.substring(2, 1) == ''",
            "substring(): the end is before the start",
        ),
        (
            "optional.none().value() == 1",
            "the optional value is not there",
        ),
    ]);
}

#[test]
fn cel_mistakes_are_found_when_read() {
    for (source, error) in [
        ("", "the end is unexpected, at character 1"),
        ("status.", "expected a name, found the end, at character 8"),
        (
            "status.phase = 'a'",
            "\"=\" is no part of an expression, at character 14",
        ),
        ("(true", "expected \")\", found the end, at character 6"),
        ("true true", "\"true\" is unexpected, at character 6"),
        ("'ä' == 'b", "the text has no end, at character 8"),
        (
            "'\\q' == 'b'",
            "this escape sequence is unknown, at character 2",
        ),
        ("b'a' == b'a'", "bytes are not supported, at character 1"),
        (
            "99999999999999999999 > 1",
            "the number is too large, at character 1",
        ),
        (
            "has(status)",
            "has() takes one field, as has(status.phase), at character 1",
        ),
        (
            "Boat{name: 'a'}.name == 'a'",
            "messages are not supported: Boat{…}, at character 1",
        ),
        (
            "'a' + 'b'",
            "the result must be true or false, at character 1",
        ),
        ("[true]", "the result must be true or false, at character 1"),
        (
            "self.status.phase == 'a'",
            "there is no variable `self`: write `status.phase`, not `self.status.phase`, at character 1",
        ),
        (
            "status.a.trim(1) == ''",
            "trim(): it takes 0 arguments, not 1, at character 10",
        ),
        (
            "size() == 1",
            "size(): it takes 1 argument, not 0, at character 1",
        ),
        (
            "status.conditions.all(e)",
            "expected \",\", found \")\", at character 24",
        ),
        (
            "status.a.matches(status.b)",
            "the pattern of matches() must be text in quotes, at character 18",
        ),
        (
            "'a'.matches('(')",
            "this is no regular expression (RE2), at character 13",
        ),
        (
            "'a'.matches('(a{100}){100}')",
            "the pattern of matches() is too large, at character 13",
        ),
    ] {
        assert_eq!(evaluate(source), Err(error.to_owned()), "{source}");
    }
    let pattern = |length: usize| format!("'a'.matches('[a{}]')", "b".repeat(length - 3));
    assert_eq!(evaluate(&pattern(256)), Ok(true));
    assert_eq!(
        evaluate(&pattern(257)),
        Err(
            "the pattern of matches() has 257 bytes, and at most 256 are allowed, at character 13"
                .to_owned()
        )
    );
    let patterns = ["'a'.matches('a')"; 5].join(" && ");
    assert_eq!(
        evaluate(&patterns),
        Err("an expression has at most 4 patterns, at character 93".to_owned())
    );
    let error = evaluate("status.phase.frobnicate()").unwrap_err();
    assert!(
        error.starts_with("frobnicate(): this function is unknown; available: size, contains"),
        "{error}"
    );
    // The guide lists these as not available.
    for source in [
        "status.?phase.optMap(e, e == 'a').orValue(true)",
        "status.?phase.optFlatMap(e, optional.of(true)).orValue(true)",
        "[?status.?phase] == []",
        "{?'a': status.?phase} == {}",
        "'a'.lastIndexOf('a', 0) == 0",
        "'%s'.format(['a']) == 'a'",
        "'ab'.reverse() == 'ba'",
        "strings.quote('a') == 'a'",
        "base64.encode(status.phase) == 'a'",
        "base64.decode('YQ==') == 'a'",
        "type(status.phase) == string",
        "bytes('a') == bytes('a')",
        "timestamp(status.since).getFullYear() == 2024",
        "duration('1h').getHours() == 1",
    ] {
        assert!(Expression::parse(source).is_err(), "{source}");
    }
    // A variable of a macro may have any name.
    holds(&["[1].all(self, self == 1)"]);
}

#[test]
fn cel_deep_nesting_is_refused() {
    for source in [
        "(".repeat(2000),
        format!("{}true{}", "(".repeat(2000), ")".repeat(2000)),
        format!("{}true", "!".repeat(4000)),
        format!("{}1 == 1", "- ".repeat(2000)),
        format!("{}1{} == 1", "[".repeat(2000), "]".repeat(2000)),
        format!("{}true", "a?b:".repeat(1000)),
        format!("a{}", ".a".repeat(2000)),
        format!("a{}", "[0]".repeat(1300)),
        vec!["1"; 2000].join("+"),
        vec!["a"; 1300].join("=="),
        format!("a{}", ".map(x,x)".repeat(400)),
        format!("{}a{}", "a.all(x,".repeat(400), ")".repeat(400)),
        format!("{}a{}", "size(".repeat(600), ")".repeat(600)),
    ] {
        let error = evaluate(&source).unwrap_err();
        assert!(error.contains("nested too deeply"), "{error}: {source:.60}");
    }
    // Long but flat.
    holds(&[
        &vec!["true"; 500].join(" && "),
        &vec!["false"; 400].join("||").replacen("false", "true", 1),
    ]);
    let error = evaluate(&"a".repeat(MAX_LENGTH + 1)).unwrap_err();
    assert!(
        error.starts_with("the expression has 4097 bytes, and at most 4096 are allowed"),
        "{error}"
    );
}

#[test]
fn cel_costly_evaluation_is_ended() {
    let many: Vec<u64> = (0..50_000).collect();
    let long = "a".repeat(1 << 20);
    let object = json!({
        "many": many,
        "long": long,
        "lists": [many, many],
        "short": {"a": 1},
        "middle": "aaa",
    });
    let numbers = format!("[{}]", vec!["0"; 100].join(","));
    let often = |condition: &str| format!("{numbers}.all(a, {numbers}.all(b, {condition}))");
    let entries: Vec<String> = (0..300).map(|entry| format!("'{entry}':0")).collect();
    let map = format!("[{{{}}}].all(m, {})", entries.join(","), often("!has(m.x)"));
    let costly = [
        // What is looked for counts as well as where.
        &often("'x'.indexOf(long) < 0"),
        &often("long in {long: 0}"),
        &often("!(long in short)"),
        &map,
        &often(&format!("middle.matches('^{}')", "a{0}".repeat(63))),
        "many.all(e, e >= 0 && e < 60000)",
        "many.exists(a, many.exists(b, a + b < 0))",
        "many.map(a, many).map(b, b + b) == []",
        "size(many.map(a, [a, a, a, a, a, a, a, a])) == 0",
        // Growth without loops.
        "size(['a'].map(x, x + x + x + x + x + x).map(x, [x, x, x, x, x, x, x, x, x, x]).map(x, [x, x, x, x, x, x, x, x, x, x])) == 1 && many == lists[0] && many == lists[1]",
        "(long + long + long + long) == ''",
        "long.replace('a', 'bbbbbbbbbbbbbbbbbbbb') == ''",
        "long.split('') == []",
        "[long, long, long].join(long) == ''",
        "long.matches('(a|b)*c')",
        "sets.equivalent(many, lists[1])",
        // The bound is no failure that a decision may absorb.
        "many.all(e, e >= 0 && e < 60000) || true",
        "[1, 2, 3].exists(e, many.all(f, f >= 0 && f < 60000) || e == 3)",
    ];
    for source in costly {
        let result = Expression::parse(source)
            .unwrap()
            .evaluate(object.as_object().unwrap());
        assert_eq!(result, Err(EvaluationError::TooCostly), "{source}");
    }
    let usual = Expression::parse("many[49999] == 49999 && long.startsWith('aaa')").unwrap();
    assert_eq!(usual.evaluate(object.as_object().unwrap()), Ok(true));
}

#[test]
fn cel_expression_is_its_text() {
    let [a, b, c] = ["true", "true", " true"].map(|source| Expression::parse(source).unwrap());
    assert!(a == b && a != c);
    assert_eq!(format!("{a:?}"), "Expression(\"true\")");
}

fn any_expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "true",
        "null",
        "1",
        "-1",
        "9223372036854775807",
        "0.5",
        "2u",
        "'a'",
        "''",
        "status",
        "status.conditions",
        "status.?x",
        "e",
        "[]",
        "{}",
        "timestamp('2024-05-01T10:00:00Z')",
        "duration('1s')",
        "optional.none()",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operator = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "in", "&&", "||",
        ]);
        let method = prop::sample::select(vec![
            "size()",
            "trim()",
            "charAt(1)",
            "substring(1)",
            "hasValue()",
            "split('a')",
            "indexOf('a', 1)",
            "join('a')",
            "all(e, e)",
            "exists_one(e, e == 1)",
            "map(e, e)",
            "filter(e, e == e)",
            "matches('a+')",
        ]);
        let function = prop::sample::select(vec![
            "string",
            "int",
            "uint",
            "double",
            "bool",
            "timestamp",
            "duration",
            "size",
            "-",
            "!",
        ]);
        prop_oneof![
            (inner.clone(), operator, inner.clone())
                .prop_map(|(a, o, b)| format!("({a}) {o} ({b})")),
            (inner.clone(), method).prop_map(|(a, m)| format!("({a}).{m}")),
            (function, inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("({a}) ? ({b}) : ({c})")),
            prop::collection::vec(inner, 0..3).prop_map(|all| format!("[{}]", all.join(", "))),
        ]
    })
}

proptest! {
    #[test]
    fn cel_any_expression_never_panics(source in any_expression()) {
        let _ = evaluate(&source);
    }

    #[test]
    fn cel_any_text_never_panics(source in "[-a-c0-9.?\\[\\](){}'\"\\\\!&|=<>+*/%,: rux`\n]{0,60}") {
        let _ = evaluate(&source);
    }
}
