use exops_psobject::Value;
use thiserror::Error;

use crate::{Filter, Operator};

/// Longest filter in bytes.
const MAX_LENGTH: usize = 64 * 1024;
/// Deepest nesting of the resulting tree.
const MAX_DEPTH: usize = 64;
/// Largest number of comparisons.
const MAX_CLAUSES: usize = 1_000;

const COMPARISONS: [(&str, Operator); 8] = [
    ("eq", Operator::Equal),
    ("ne", Operator::NotEqual),
    ("lt", Operator::Less),
    ("le", Operator::LessOrEqual),
    ("gt", Operator::Greater),
    ("ge", Operator::GreaterOrEqual),
    ("like", Operator::Like),
    ("notlike", Operator::NotLike),
];

/// Why a filter text is not understood. The display names the place, what stands there and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("The filter is not understood at position {position}: {message}.")]
pub struct ParseError {
    /// Number of the character, counted from 1.
    pub position: usize,
    /// What was found and what was expected.
    pub message: String,
}

/// Reads an OPATH filter, the text of `-Filter` and its kin.
///
/// Comparisons are `Property -operator value` with `-eq -ne -lt -le -gt -ge -like -notlike`, joined by `-and`, `-or`,
/// `-not` and parentheses; braces may enclose the whole. Values are text in single or double quotes (a doubled
/// quote stands for itself), numbers, `$true`, `$false`, `$null`. Operators and variables go without case. Typographic
/// quotes and dashes count as plain ones, as PowerShell has it.
///
/// **`-and` and `-or` bind equally, from left to right**: `a -or b -and c` is `(a -or b) -and c`. Exchange does not
/// document it; this is PowerShell's rule.
///
/// # Errors
/// When the text is not understood, longer than 64 KiB, nested more than 64 deep, or has more than 1,000 comparisons.
pub fn parse_opath(text: &str) -> Result<Filter, ParseError> {
    let mut parser = Parser { text, at: 0, start: 0, clauses: 0 };
    if text.len() > MAX_LENGTH {
        return Err(parser.error(format!("it is longer than {MAX_LENGTH} bytes")));
    }
    let mut first = parser.next()?;
    let braces = first == Token::OpenBrace;
    if braces {
        first = parser.next()?;
    }
    let (Tree { filter, .. }, last) = parser.expression(first, 1)?;
    let last = if braces {
        if last != Token::CloseBrace {
            return Err(parser.expected("-and, -or or '}'", &last));
        }
        parser.next()?
    } else {
        last
    };
    if last != Token::End {
        return Err(parser.expected("-and, -or or the end", &last));
    }
    Ok(filter)
}

#[derive(Debug, PartialEq)]
enum Token<'a> {
    Open,
    Close,
    OpenBrace,
    CloseBrace,
    /// A word behind a dash.
    Operator(&'a str),
    /// A bare word.
    Word(&'a str),
    Value(Value),
    End,
}

/// A filter and the length of its longest path.
struct Tree {
    filter: Filter,
    height: usize,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// Where the last token starts.
    start: usize,
    clauses: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, message: String) -> ParseError {
        let before = self.text.get(..self.start).unwrap_or_default();
        ParseError { position: before.chars().count() + 1, message }
    }

    fn expected(&self, what: &str, found: &Token<'_>) -> ParseError {
        let found: String = match found {
            Token::End => "the end".to_owned(),
            _ => {
                let token: String = self.text.get(self.start..self.at).unwrap_or_default().chars().take(40).collect();
                format!("\"{token}\"")
            }
        };
        self.error(format!("expected {what}, found {found}"))
    }

    /// Terms joined by `-and` and `-or`; answers the token behind them too. `depth` bounds the recursion, the tree's own
    /// height what later walks it: each change between `-and` and `-or` wraps everything to its left.
    fn expression(&mut self, first: Token<'a>, depth: usize) -> Result<(Tree, Token<'a>), ParseError> {
        let mut left = self.term(first, depth)?;
        loop {
            let token = self.next()?;
            let and = match token {
                Token::Operator(o) if o.eq_ignore_ascii_case("and") => true,
                Token::Operator(o) if o.eq_ignore_ascii_case("or") => false,
                other => return Ok((left, other)),
            };
            let next = self.next()?;
            let right = self.term(next, depth + 1)?;
            let (filter, height) = match (left.filter, and) {
                (Filter::And(mut parts), true) => {
                    parts.push(right.filter);
                    (Filter::And(parts), left.height.max(right.height + 1))
                }
                (Filter::Or(mut parts), false) => {
                    parts.push(right.filter);
                    (Filter::Or(parts), left.height.max(right.height + 1))
                }
                (other, true) => (Filter::And(vec![other, right.filter]), left.height.max(right.height) + 1),
                (other, false) => (Filter::Or(vec![other, right.filter]), left.height.max(right.height) + 1),
            };
            self.check_depth(height)?;
            left = Tree { filter, height };
        }
    }

    fn term(&mut self, first: Token<'a>, depth: usize) -> Result<Tree, ParseError> {
        self.check_depth(depth)?;
        match first {
            Token::Open => {
                let inner = self.next()?;
                let (filter, last) = self.expression(inner, depth + 1)?;
                if last == Token::Close { Ok(filter) } else { Err(self.expected("-and, -or or ')'", &last)) }
            }
            Token::Operator(o) if o.eq_ignore_ascii_case("not") => {
                let inner = self.next()?;
                let part = self.term(inner, depth + 1)?;
                self.check_depth(part.height + 1)?;
                Ok(Tree { filter: Filter::Not(Box::new(part.filter)), height: part.height + 1 })
            }
            Token::Word(property) => Ok(Tree { filter: self.comparison(property)?, height: 1 }),
            other => Err(self.expected("a property name, -not or '('", &other)),
        }
    }

    fn comparison(&mut self, property: &str) -> Result<Filter, ParseError> {
        self.clauses += 1;
        if self.clauses > MAX_CLAUSES {
            return Err(self.error(format!("it has more than {MAX_CLAUSES} comparisons")));
        }
        let operator = match self.next()? {
            Token::Operator(word) => {
                COMPARISONS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, o)| *o).ok_or(Token::Operator(word))
            }
            other => Err(other),
        };
        let operator = operator.map_err(|found| {
            let names: Vec<String> = COMPARISONS.iter().map(|(name, _)| format!("-{name}")).collect();
            self.expected(&format!("an operator ({}) behind {property}", names.join(", ")), &found)
        })?;
        match self.next()? {
            Token::Value(value) => Ok(Filter::Compare { property: property.to_owned(), operator, value }),
            other => Err(self.expected("a value (text in quotes, a number, $true, $false or $null)", &other)),
        }
    }

    fn check_depth(&self, depth: usize) -> Result<(), ParseError> {
        if depth > MAX_DEPTH {
            return Err(self.error(format!("it is nested more than {MAX_DEPTH} deep")));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Token<'a>, ParseError> {
        self.at += self.rest().len() - self.rest().trim_start().len();
        self.start = self.at;
        let Some(first) = self.rest().chars().next() else { return Ok(Token::End) };
        let after = self.rest().get(first.len_utf8()..).unwrap_or_default();
        let bracket = match first {
            '(' => Some(Token::Open),
            ')' => Some(Token::Close),
            '{' => Some(Token::OpenBrace),
            '}' => Some(Token::CloseBrace),
            _ => None,
        };
        if let Some(bracket) = bracket {
            self.at += 1;
            return Ok(bracket);
        }
        if is_single_quote(first) {
            return self.quoted(is_single_quote);
        }
        if is_double_quote(first) {
            return self.quoted(is_double_quote);
        }
        if first.is_ascii_digit() || (is_dash(first) && after.starts_with(|c: char| c.is_ascii_digit())) {
            return self.number();
        }
        if is_dash(first) || first == '$' {
            let length = first.len_utf8() + word_length(after);
            let word = self.rest().get(first.len_utf8()..length).unwrap_or_default();
            self.at += length;
            if is_dash(first) {
                return Ok(Token::Operator(word));
            }
            return match word.to_ascii_lowercase().as_str() {
                "true" => Ok(Token::Value(Value::Bool(true))),
                "false" => Ok(Token::Value(Value::Bool(false))),
                "null" => Ok(Token::Value(Value::Null)),
                _ => Err(self.error(format!("the variable ${word} means nothing here; only $true, $false and $null do"))),
            };
        }
        let length = word_length(self.rest());
        if length == 0 {
            return Err(self.error(format!("unexpected character '{first}'")));
        }
        let word = self.rest().get(..length).unwrap_or_default();
        self.at += length;
        Ok(Token::Word(word))
    }

    /// Text up to the closing quote; two quotes stand for one.
    fn quoted(&mut self, is_quote: fn(char) -> bool) -> Result<Token<'a>, ParseError> {
        let mut value = String::new();
        let mut characters = self.rest().char_indices().skip(1).peekable();
        while let Some((index, c)) = characters.next() {
            if !is_quote(c) {
                value.push(c);
            } else if let Some((_, doubled)) = characters.next_if(|(_, c)| is_quote(*c)) {
                value.push(doubled);
            } else {
                self.at += index + c.len_utf8();
                return Ok(Token::Value(value.into()));
            }
        }
        Err(self.error("the quote that opens here is not closed".to_owned()))
    }

    fn number(&mut self) -> Result<Token<'a>, ParseError> {
        let rest = self.rest();
        let sign = rest.chars().next().filter(|c| is_dash(*c));
        let digits = rest.get(sign.map_or(0, char::len_utf8)..).unwrap_or_default();
        let length = digits.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(digits.len());
        let (digits, behind) = digits.split_at(length);
        self.at += rest.len() - behind.len();
        let text = format!("{}{digits}", if sign.is_some() { "-" } else { "" });
        let value = match text.parse::<i64>() {
            Ok(n) => Some(Value::I64(n)),
            Err(_) if digits.contains('.') => text.parse().ok().map(Value::Double),
            Err(_) => None,
        };
        match value {
            Some(value) if word_length(behind) == 0 => Ok(Token::Value(value)),
            _ => Err(self.error("expected a number, or text in quotes".to_owned())),
        }
    }
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | ':'))).unwrap_or(text.len())
}

fn is_single_quote(c: char) -> bool {
    matches!(c, '\'' | '\u{2018}'..='\u{201B}')
}

fn is_double_quote(c: char) -> bool {
    matches!(c, '"' | '\u{201C}'..='\u{201E}')
}

/// Hyphen, en dash, em dash, horizontal bar.
fn is_dash(c: char) -> bool {
    matches!(c, '-' | '\u{2013}'..='\u{2015}')
}
