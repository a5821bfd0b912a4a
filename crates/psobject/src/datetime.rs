use std::fmt;

use jiff::civil;

/// Ticks of 100 ns in one second.
const SECOND: i64 = 10_000_000;
/// `0001-01-01` to `1970-01-01` in ticks.
const UNIX_EPOCH: i64 = 621_355_968_000_000_000;
/// Last tick of the year 9999.
const MAX: i64 = 3_155_378_975_999_999_999;

/// How a `DateTime` relates to UTC (.NET's `DateTimeKind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DateTimeKind {
    /// Written with `Z`.
    Utc,
    /// Written with an offset, kept here in minutes east of UTC.
    Local(i16),
    /// Written with neither.
    Unspecified,
}

/// .NET's `System.DateTime`: 100 ns ticks since 0001-01-01 of the clock that `kind` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DateTime {
    ticks: i64,
    kind: DateTimeKind,
}

impl DateTime {
    /// From ticks of the named clock; `None` outside the years 1 to 9999.
    #[must_use]
    pub fn from_ticks(ticks: i64, kind: DateTimeKind) -> Option<Self> {
        (0..=MAX).contains(&ticks).then_some(Self { ticks, kind })
    }

    /// A UTC time from milliseconds since 1970; clamped to the years 1 to 9999.
    #[must_use]
    pub fn from_unix_milliseconds(milliseconds: i64) -> Self {
        let ticks = milliseconds.saturating_mul(10_000).saturating_add(UNIX_EPOCH).clamp(0, MAX);
        Self { ticks, kind: DateTimeKind::Utc }
    }

    /// Ticks of the clock that [`Self::kind`] names.
    #[must_use]
    pub fn ticks(self) -> i64 {
        self.ticks
    }

    /// The clock.
    #[must_use]
    pub fn kind(self) -> DateTimeKind {
        self.kind
    }

    /// Ticks since 0001-01-01 UTC; an unspecified time counts as UTC.
    #[must_use]
    pub fn utc_ticks(self) -> i64 {
        match self.kind {
            DateTimeKind::Local(minutes) => self.ticks - i64::from(minutes) * 60 * SECOND,
            _ => self.ticks,
        }
    }

    /// Milliseconds since 1970 UTC.
    #[must_use]
    pub fn unix_milliseconds(self) -> i64 {
        (self.utc_ticks() - UNIX_EPOCH).div_euclid(10_000)
    }

    /// The same instant as UTC.
    #[must_use]
    pub fn to_utc(self) -> Self {
        Self { ticks: self.utc_ticks().clamp(0, MAX), kind: DateTimeKind::Utc }
    }

    /// Reads `yyyy-MM-ddTHH:mm:ss[.fffffff][Z|±hh:mm]` (XML Schema's `dateTime`, .NET's round-trip form).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (date, time) = text.split_once(['T', ' '])?;
        let mut parts = date.splitn(3, '-');
        let year: i16 = digits(parts.next()?, 4)?;
        let month: i8 = digits(parts.next()?, 2)?;
        let day: i8 = digits(parts.next()?, 2)?;
        let zone = time.find(['Z', '+', '-']).map_or(time.len(), |i| i);
        let (clock, zone) = time.split_at(zone);
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
        let mut parts = clock.splitn(3, ':');
        let hour: i8 = digits(parts.next()?, 2)?;
        let minute: i8 = digits(parts.next()?, 2)?;
        let second: i8 = digits(parts.next()?, 2)?;
        if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) || year < 1 {
            return None;
        }
        let mut sub = 0i64;
        for i in 0..7 {
            sub = sub * 10 + i64::from(fraction.as_bytes().get(i).map_or(0, |b| b - b'0'));
        }
        let day = civil::Date::new(year, month, day).ok()?;
        if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..60).contains(&second) {
            return None;
        }
        let days = days_since_year_one(day);
        let seconds = ((days * 24 + i64::from(hour)) * 60 + i64::from(minute)) * 60 + i64::from(second);
        let kind = match zone {
            "" => DateTimeKind::Unspecified,
            "Z" => DateTimeKind::Utc,
            offset => {
                let sign = if offset.starts_with('-') { -1 } else { 1 };
                let (h, m) = offset.get(1..)?.split_once(':')?;
                let (h, m): (i16, i16) = (digits(h, 2)?, digits(m, 2)?);
                if h > 14 || m > 59 {
                    return None;
                }
                DateTimeKind::Local(sign * (h * 60 + m))
            }
        };
        Self::from_ticks(seconds * SECOND + sub, kind)
    }

    /// The REST form: always seven fraction digits and a numeric offset (`+00:00` for UTC).
    #[must_use]
    pub fn to_rest(self) -> String {
        let minutes = if let DateTimeKind::Local(minutes) = self.kind { minutes } else { 0 };
        let sign = if minutes < 0 { '-' } else { '+' };
        let (hours, minutes) = (minutes.abs() / 60, minutes.abs() % 60);
        format!("{}{sign}{hours:02}:{minutes:02}", text(&self.digits()))
    }

    /// `yyyy-MM-ddTHH:mm:ss.fffffff`; the fraction begins at [`POINT`].
    fn digits(self) -> [u8; 27] {
        let seconds = self.ticks / SECOND;
        let (year, month, day) = date_from_year_one(seconds / 86_400);
        let rest = seconds % 86_400;
        let mut digits = *b"0000-00-00T00:00:00.0000000";
        let fields =
            [(4, year), (7, month), (10, day), (13, rest / 3600), (16, rest / 60 % 60), (19, rest % 60), (27, self.ticks % SECOND)];
        for (end, mut number) in fields {
            for digit in digits[..end].iter_mut().rev().take_while(|digit| **digit == b'0') {
                *digit += u8::try_from(number % 10).unwrap_or(0);
                number /= 10;
            }
        }
        digits
    }
}

/// Where the point stands in [`DateTime::digits`].
const POINT: usize = 19;

fn text(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
}

/// The CLIXML form: fraction without trailing zeros, `Z`, an offset or nothing.
impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.digits();
        f.write_str(text(&digits[..POINT]))?;
        if self.ticks % SECOND != 0 {
            f.write_str(text(&digits[POINT..]).trim_end_matches('0'))?;
        }
        match self.kind {
            DateTimeKind::Utc => f.write_str("Z"),
            DateTimeKind::Unspecified => Ok(()),
            DateTimeKind::Local(minutes) => {
                write!(f, "{}{:02}:{:02}", if minutes < 0 { '-' } else { '+' }, minutes.abs() / 60, minutes.abs() % 60)
            }
        }
    }
}

fn digits<T: std::str::FromStr>(text: &str, length: usize) -> Option<T> {
    (text.len() == length && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn days_since_year_one(date: civil::Date) -> i64 {
    // The proleptic Gregorian day number, counted with March as the first month so that leap days come last.
    let (y, m, d) = (i64::from(date.year()), i64::from(date.month()), i64::from(date.day()));
    let y = if m <= 2 { y - 1 } else { y };
    let era = y.div_euclid(400);
    let yoe = y - era * 400;
    let doy = (153 * (if m > 2 { m - 3 } else { m + 9 }) + 2) / 5 + d - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 306
}

/// Year, month and day: the way back from [`days_since_year_one`].
fn date_from_year_one(days: i64) -> (i64, i64, i64) {
    let days = days + 306;
    let (era, doe) = (days / 146_097, days % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let month = (5 * doy + 2) / 153;
    let day = doy - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

/// .NET's `System.TimeSpan` in 100 ns ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeSpan(pub i64);

impl TimeSpan {
    /// Reads `[-][d.]hh:mm:ss[.fffffff]`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (sign, text) = match text.trim().strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.trim()),
        };
        let mut parts = text.splitn(3, ':');
        let (first, minutes, last) = (parts.next()?, parts.next()?, parts.next()?);
        let (days, hours) = first.split_once('.').unwrap_or(("0", first));
        let (seconds, fraction) = last.split_once('.').unwrap_or((last, ""));
        let number = |s: &str| -> Option<i64> {
            (!s.is_empty() && s.len() <= 8 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok()).flatten()
        };
        let (h, m, s) = (number(hours)?, number(minutes)?, number(seconds)?);
        if h > 23 || m > 59 || s > 59 || fraction.len() > 7 {
            return None;
        }
        let sub = if fraction.is_empty() { 0 } else { number(&format!("{fraction:0<7}"))? };
        let seconds = ((number(days)? * 24 + h) * 60 + m) * 60 + s;
        Some(Self(seconds.checked_mul(sign * SECOND)?.checked_add(sign * sub)?))
    }

    /// Reads an XML Schema `duration` as CLIXML writes it (`P1DT2H3M4.5S`, `-PT1S`); years and months are refused.
    #[must_use]
    pub fn parse_duration(text: &str) -> Option<Self> {
        let (sign, text) = match text.trim().strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.trim()),
        };
        let text = text.strip_prefix('P')?;
        let (date, time) = text.split_once('T').unwrap_or((text, ""));
        let mut total = 0i64;
        let mut add = |text: &str, units: &[(char, i64)]| -> Option<()> {
            let mut rest = text;
            while !rest.is_empty() {
                let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
                let (number, tail) = rest.split_at(end);
                let unit = tail.chars().next()?;
                let factor = units.iter().find(|(u, _)| *u == unit)?.1;
                let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
                if fraction.len() > 7 || (unit != 'S' && !fraction.is_empty()) {
                    return None;
                }
                let sub: i64 = if fraction.is_empty() { 0 } else { format!("{fraction:0<7}").parse().ok()? };
                let whole: i64 = whole.parse().ok()?;
                total = total.checked_add(whole.checked_mul(sign * factor * SECOND)?)?.checked_add(sign * sub)?;
                rest = &tail[unit.len_utf8()..];
            }
            Some(())
        };
        add(date, &[('D', 86_400)])?;
        add(time, &[('H', 3600), ('M', 60), ('S', 1)])?;
        Some(Self(total))
    }

    /// The XML Schema `duration` that CLIXML carries.
    #[must_use]
    pub fn to_duration(self) -> String {
        let (days, h, m, s, sub) = self.parts();
        let mut out = String::from(if self.0 < 0 { "-P" } else { "P" });
        if days != 0 {
            out += &format!("{days}D");
        }
        if h != 0 || m != 0 || s != 0 || sub != 0 || days == 0 {
            out.push('T');
            if h != 0 {
                out += &format!("{h}H");
            }
            if m != 0 {
                out += &format!("{m}M");
            }
            if s != 0 || sub != 0 || (h == 0 && m == 0) {
                out += &s.to_string();
                if sub != 0 {
                    out.push('.');
                    out += format!("{sub:07}").trim_end_matches('0');
                }
                out.push('S');
            }
        }
        out
    }

    fn parts(self) -> (u64, u64, u64, u64, u64) {
        let ticks = self.0.unsigned_abs();
        let second = SECOND.unsigned_abs();
        let seconds = ticks / second;
        (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60, ticks % second)
    }
}

/// .NET's constant form `[-][d.]hh:mm:ss[.fffffff]`.
impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, h, m, s, sub) = self.parts();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        if days != 0 {
            write!(f, "{days}.")?;
        }
        write!(f, "{h:02}:{m:02}:{s:02}")?;
        if sub != 0 {
            write!(f, ".{sub:07}")?;
        }
        Ok(())
    }
}
