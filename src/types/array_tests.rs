use proptest::prelude::*;

use super::*;

fn ints(text: &str) -> ArrayRef<'_> {
    ArrayRef::Text(ArrayText::new(text.as_bytes(), b','), Reading::Int)
}

fn texts(text: &str) -> Vec<Option<String>> {
    let elements = ArrayText::new(text.as_bytes(), b',').elements();
    let text = |text: Option<std::borrow::Cow<'_, [u8]>>| text.map(|t| String::from_utf8(t.into()).unwrap());
    elements.map(|element| text(element.unwrap())).collect()
}

fn dimensions(text: &str) -> Option<Vec<(i32, u32)>> {
    let dimensions = ArrayText::new(text.as_bytes(), b',').dimensions().ok()?;
    Some(dimensions.iter().map(|d| (d.lower, d.length)).collect())
}

#[test]
fn elements_are_read_in_place_unless_they_are_escaped() {
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        texts(r#"{a,NULL,"NULL","",b c,"q\"\\,{}",é}"#),
        [
            some("a"),
            None,
            some("NULL"),
            some(""),
            some("b c"),
            some("q\"\\,{}"),
            some("é")
        ]
    );
    assert_eq!(texts("{{1,2},{3,4}}"), ["1", "2", "3", "4"].map(some));
    assert_eq!(texts("[2:3]={1,2}"), ["1", "2"].map(some));
    assert_eq!(texts("{}"), []);
    let boxes = ArrayText::new(b"{(1,1),(0,0);(2,2),(1,1)}", b';').elements();
    assert_eq!(boxes.count(), 2);
    for element in ArrayText::new(br#"{a,"b","c\\"}"#, b',').elements() {
        let element = element.unwrap().unwrap();
        let is_borrowed = matches!(element, std::borrow::Cow::Borrowed(_));
        assert_eq!(is_borrowed, *element != *b"c\\", "{element:?}");
    }
}

#[test]
fn dimensions_and_bounds_are_read() {
    assert_eq!(dimensions("{}"), Some(vec![]));
    assert_eq!(dimensions("{1,2}"), Some(vec![(1, 2)]));
    assert_eq!(dimensions("{{1,2,3},{4,5,NULL}}"), Some(vec![(1, 2), (1, 3)]));
    assert_eq!(dimensions("[-1:0][5:5]={{1},{2}}"), Some(vec![(-1, 2), (5, 1)]));
    assert_eq!(dimensions("{{{{{{1}}}}}}"), Some(vec![(1, 1); 6]));
}

#[test]
fn what_is_no_array_is_malformed_to_every_question() {
    for text in [
        "",
        "{",
        "}",
        "{1",
        "1",
        "{1}}",
        "{1}x",
        "{1,}",
        "{,1}",
        "{{1},{1,2}}",
        "{{1},2}",
        "{1,{2}}",
        "{{}}",
        "{{},{}}",
        "{{{{{{{1}}}}}}}",
        "[1:2]={1}",
        "[1:2]{1,2}",
        "[1]={1}",
        "[a:b]={1}",
        "[1:2={1,2}",
        "[1:0]={}",
        "{\"1}",
        "{\"1\"2}",
        "[1:1][1:1]={1}",
        "[1:1]={{1}}",
    ] {
        assert_eq!(dimensions(text), None, "{text}");
        for item in ArrayText::new(text.as_bytes(), b',').elements() {
            if item.is_err() {
                assert!(ints(text).equals(ints(text)).is_err(), "{text}");
            }
        }
    }
    assert_eq!(ints("{1,x}").any(|_| false), Err(Malformed));
    assert_eq!(ints("{1,x}").equals(ints("{1,2}")), Err(Malformed));
    assert_eq!(ints("{1,2").contains(ints("{3}")), Err(Malformed));
}

#[test]
fn equality_counts_bounds_and_nulls_and_containment_neither() {
    let same = |a, b| ints(a).equals(ints(b)).unwrap();
    assert!(same("{1,NULL}", "{1,NULL}") && same("{}", "{}"));
    assert!(!same("{1,2}", "[2:3]={1,2}") && !same("{{1,2}}", "{1,2}") && !same("{1}", "{1,1}"));
    let contains = |a, b| ints(a).contains(ints(b)).unwrap();
    assert!(contains("{{1,2},{3,4}}", "[5:7]={4,1,1}") && contains("{1}", "{}"));
    assert!(!contains("{1,NULL}", "{NULL}") && !contains("{1}", "{1,2}"));
    let overlaps = |a, b| ints(a).overlaps(ints(b)).unwrap();
    assert!(overlaps("{1,2}", "{2,3}"));
    assert!(!overlaps("{1,NULL}", "{NULL}") && !overlaps("{}", "{}"));
    let any = |a, x| ints(a).any(|e| *e == Datum::Int(x)).unwrap();
    assert_eq!(any("{1,NULL}", 1), Some(true));
    assert_eq!(any("{2,NULL}", 1), None);
    assert_eq!(any("{2}", 1), Some(false));
    assert_eq!(any("{}", 1), Some(false));
}

#[test]
fn literals_are_read_as_array_in_reads_them_or_refused() {
    let same = |literal: &str, printed: &str| {
        let array = Array::literal(&Kind::Int4, literal).unwrap();
        assert!(
            ArrayRef::Constant(&array).equals(ints(printed)).unwrap(),
            "{literal}"
        );
    };
    same(" { 1 , \"2\",null } ", "{1,2,NULL}");
    same("[2:3]={1,2}", "[2:3]={1,2}");
    same("{ }", "{}");
    same("{ {1 ,2}, {3,4} }", "{{1,2},{3,4}}");
    let text = Array::literal(&Kind::Text, r#"{ a b , "c\"d", " e " ,"null", ""}"#).unwrap();
    let text: Vec<_> = text.elements().iter().flatten().cloned().collect();
    let expected = ["a b", "c\"d", " e ", "null", ""].map(|t| literal(&Kind::Text, t).unwrap());
    assert_eq!(text, expected);
    assert_eq!(Array::literal(&Kind::Int4, "{}"), Ok(Array::new(vec![])));
    assert_eq!(
        Array::literal(&Kind::Int4, "{1,NULL}"),
        Ok(Array::new(vec![Some(Datum::Int(1)), None]))
    );
    for refused in [
        "",
        "1,2",
        "{1",
        "{1}{",
        "{1,}",
        "{{}}",
        "{{1},{2,3}}",
        "[1:2] ={1,2}",
        "{a\\b}",
        "{\"a\"b}",
        "{a\"b\"}",
        "{\"a\"\"b\"}",
        "{1}}",
        "{\"a\\",
    ] {
        let error = Array::literal(&Kind::Text, refused).unwrap_err();
        assert!(
            matches!(error, LiteralError::NotPlain { .. }),
            "{refused}: {error}"
        );
    }
    let error = Array::literal(&Kind::Int2, "{1,40000}").unwrap_err();
    assert!(matches!(error, LiteralError::OutOfRange { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn any_text_gets_an_answer(
        tokens in prop::collection::vec(prop::sample::select(vec![
            "{", "}", ",", "\"", "\\", "1", "NULL", " ", "[", "]", ":", "=", "2", "\"1\"",
        ]), 0..12),
    ) {
        let text = tokens.concat();
        let array = ints(&text); let other = ints("{1,2}");
        let _ = (array.contains(other), other.contains(array), array.overlaps(other), array.compare(other));
        let _ = array.is_empty();
        prop_assert_ne!(array.equals(array), Ok(false));
        if let Ok(constant) = Array::literal(&Kind::Int4, &text) {
            let constant = ArrayRef::Constant(&constant);
            prop_assert_eq!(constant.equals(constant), Ok(true));
        }
    }
}

/// An array of small numbers with the same ones again and again, and nulls now and then.
fn many() -> impl Strategy<Value = Vec<Option<i64>>> {
    let element = prop_oneof![60 => (0..400i64).prop_map(Some), 1 => Just(None)];
    let plain = prop::collection::vec((0..400i64).prop_map(Some), 0..400);
    prop_oneof![prop::collection::vec(element, 0..400), plain]
}

fn printed(values: &[Option<i64>]) -> String {
    let values = values
        .iter()
        .map(|value| value.map_or("NULL".to_owned(), |value| value.to_string()));
    format!("{{{}}}", values.collect::<Vec<_>>().join(","))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// More values than a word has bits, and all of one in the other where it is made of it.
    #[test]
    fn arrays_of_many_values_are_to_sets_what_each_of_their_elements_is(
        left in many(),
        right in many(),
        keep in 1..100usize,
        is_part in any::<bool>(),
    ) {
        let right: Vec<_> = if is_part { left.iter().cycle().take(left.len() * 2).step_by(keep).copied().collect() } else { right };
        let is_in = |value: &Option<i64>, array: &[Option<i64>]| value.is_some() && array.contains(value);
        let contains = right.iter().all(|value| is_in(value, &left)); let is_within = left.iter().all(|value| is_in(value, &right));
        let overlaps = right.iter().any(|value| is_in(value, &left));
        let texts = [printed(&left), printed(&right)];
        let a = ints(&texts[0]); let b = ints(&texts[1]);
        prop_assert_eq!(
            (a.contains(b), b.contains(a), a.overlaps(b)),
            (Ok(contains), Ok(is_within), Ok(overlaps))
        );
        let set = ArraySet::from(Array::literal(&Kind::Int4, &texts[1]).unwrap());
        prop_assert_eq!(
            (a.contains_set(&set), a.is_within_set(&set), a.overlaps_set(&set)),
            (Ok(contains), Ok(is_within), Ok(overlaps))
        );
    }
}

#[test]
fn the_work_on_an_array_is_counted_by_its_elements_and_not_by_its_text_alone() {
    assert_eq!(
        ArraySize::of(b"{1,2,NULL}", b','),
        ArraySize {
            bytes: 10,
            elements: 3
        }
    );
    assert_eq!(ArraySize::of(b"{}", b',').elements, 1, "it may be one too many");
    let digits = ArraySize {
        bytes: 2_001,
        elements: 1_000,
    };
    let words = ArraySize {
        bytes: 2_001,
        elements: 10,
    };
    let list = |length: i64| {
        let elements = (0..length).map(|number| Some(Datum::Int(number)));
        ArraySet::from(Array::new(elements.collect()))
    };
    assert!(digits.reading() > 10 * words.reading());
    // A search takes a step more for twice as many.
    let [few, many] = [64, 1_024].map(|length| list(length).work(digits) - digits.reading());
    assert_eq!(many * 7, few * 11);
    // To sort what it is compared to takes about as long as to find as many.
    assert!(digits.comparing(words) < digits.comparing(digits));
    assert!(digits.comparing(digits) > 2 * list(1_000).work(digits) - 2 * digits.reading());
    let huge = ArraySize {
        bytes: usize::MAX,
        elements: usize::MAX,
    };
    assert_eq!(huge.comparing(huge), u64::MAX);
}
