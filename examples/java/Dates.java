import java.math.BigDecimal;
import java.time.DateTimeException;
import java.time.LocalDate;
import java.time.LocalTime;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;

/** Dates as texts to seconds since 1970: ISO 8601, and a format as strptime has it. */
final class Dates {
    private static final Pattern ISO = Pattern.compile(
        "(?<year>[0-9]{4})-(?<month>[0-9]{2})-(?<day>[0-9]{2})(?:[Tt ](?<hour>[0-9]{2}):(?<minute>[0-9]{2})"
            + "(?::(?<second>[0-9]{2})(?:[.,](?<fraction>[0-9]{1,9}))?)?(?:[Zz]|(?<sign>[+-])(?<ahead>[0-9]{2}):?(?<aheadMinute>[0-9]{2})?)?)?");
    private static final List<String> MONTHS = List.of("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec");
    private static final String MONTH = "(?<name>(?:" + String.join("|", MONTHS) + ")[a-z]*\\.?)", WEEKDAY = "(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*";
    private static final Map<Integer, String> DIRECTIVES = Map.ofEntries(
        Map.entry((int) 'Y', "(?<year>[0-9]{4})"), Map.entry((int) 'y', "(?<short>[0-9]{2})"), Map.entry((int) 'm', "(?<month>[0-9]{1,2})"),
        Map.entry((int) 'd', "(?<day>[0-9]{1,2})"), Map.entry((int) 'b', MONTH), Map.entry((int) 'B', MONTH), Map.entry((int) 'a', WEEKDAY),
        Map.entry((int) 'A', WEEKDAY), Map.entry((int) 'H', "(?<hour>[0-9]{1,2})"), Map.entry((int) 'I', "(?<hourOf12>[0-9]{1,2})"),
        Map.entry((int) 'p', "(?<half>[ap])\\.?m\\.?"), Map.entry((int) 'M', "(?<minute>[0-9]{2})"), Map.entry((int) 'S', "(?<second>[0-9]{2})"),
        Map.entry((int) 'f', "(?<fraction>[0-9]{1,9})"),
        Map.entry((int) 'z', "(?:z|utc|gmt|(?<sign>[+-])(?<ahead>[0-9]{2}):?(?<aheadMinute>[0-9]{2}))"), Map.entry((int) 'Z', "(?:z|utc|gmt)"),
        Map.entry((int) '%', "%"));
    private static final int LATEST_2000 = 68; // two digits of a year up to here are of 2000 and later

    static final Dates ISO_ONLY = new Dates(null);

    private final String format;
    private final Pattern pattern;

    /** Takes a format, or null for ISO 8601 alone; a format that cannot tell a date is refused. */
    Dates(String format) {
        this.format = format;
        pattern = format == null ? null : pattern(format);
    }

    /** Returns seconds since 1970; a text that is no date, or not one of the calendar, is refused. */
    double seconds(String text) {
        Matcher iso = ISO.matcher(text);
        if (pattern == null && iso.matches()) {
            return seconds(iso, text);
        }
        Double found = find(text);
        if (found == null) {
            String also = format == null ? " such as 2024-02-29 or 2024-02-29T12:30:00Z" : ", or one in the format " + format + " that exists";
            throw new Refused("expected an ISO 8601 date" + also + ", got " + Json.write(text));
        }
        return found;
    }

    /** Returns seconds since 1970 of a text in ISO 8601 or in the format; null for other texts. */
    Double find(String text) {
        for (Pattern each : pattern == null ? List.of(ISO) : List.of(ISO, pattern)) {
            Matcher parts = each.matcher(text);
            try {
                if (parts.matches()) {
                    return seconds(parts, text);
                }
            } catch (Refused error) {
                continue; // the other form may read it
            }
        }
        return null;
    }

    /** A date without a time is midnight, a time without an offset is UTC, and what a format lacks is the first month or day. */
    private static double seconds(Matcher parts, String text) {
        try {
            LocalDate day = LocalDate.of(year(parts), month(parts), number(parts, "day", 1));
            LocalTime time = LocalTime.of(hour(parts), number(parts, "minute", 0), number(parts, "second", 0));
            int ahead = LocalTime.of(number(parts, "ahead", 0), number(parts, "aheadMinute", 0)).toSecondOfDay();
            long seconds = day.toEpochDay() * 86_400 + time.toSecondOfDay() - ("-".equals(part(parts, "sign")) ? -ahead : ahead);
            String digits = part(parts, "fraction") == null ? "" : part(parts, "fraction");
            String micros = (digits + "000000").substring(0, 6); // digits beyond the microsecond are dropped
            return new BigDecimal(seconds).add(new BigDecimal("0." + micros)).doubleValue(); // rounded once
        } catch (DateTimeException error) {
            throw new Refused("the date does not exist: " + Json.write(text));
        }
    }

    private static int year(Matcher parts) {
        int small = number(parts, "short", 0), year = number(parts, "year", small + (small <= LATEST_2000 ? 2000 : 1900));
        if (year == 0) {
            throw new DateTimeException("the years are 1 to 9999");
        }
        return year;
    }

    private static int month(Matcher parts) {
        String name = part(parts, "name");
        return name == null ? number(parts, "month", 1) : MONTHS.indexOf(name.substring(0, 3).toLowerCase(Locale.ROOT)) + 1;
    }

    private static int hour(Matcher parts) {
        int hour = number(parts, "hourOf12", -1);
        if (hour == 0 || hour > 12) {
            throw new DateTimeException("the hours before and after noon are 1 to 12");
        }
        return hour < 0 ? number(parts, "hour", 0) : hour % 12 + ("p".equalsIgnoreCase(part(parts, "half")) ? 12 : 0);
    }

    private static int number(Matcher parts, String name, int absent) {
        String digits = part(parts, name);
        return digits == null ? absent : Integer.parseInt(digits);
    }

    /** Returns a part of the text; null if the pattern lacks it or did not use it. */
    private static String part(Matcher parts, String name) {
        return parts.pattern().pattern().contains("(?<" + name + ">") ? parts.group(name) : null;
    }

    private static Pattern pattern(String format) {
        StringBuilder source = new StringBuilder();
        int[] signs = format.codePoints().toArray();
        for (int place = 0; place < signs.length; place++) {
            if (signs[place] != '%') {
                source.append(signs[place] == ' ' ? "[ \\t-\\r]+" : Pattern.quote(Character.toString(signs[place])));
                continue;
            }
            String directive = ++place < signs.length ? DIRECTIVES.get(signs[place]) : null;
            if (directive == null) {
                throw new Refused("the date format '" + format + "' has an unknown directive");
            }
            source.append(directive);
        }
        boolean hasMonth = source.indexOf("(?<month>") >= 0 || source.indexOf("(?<name>") >= 0;
        if ((source.indexOf("(?<year>") < 0 && source.indexOf("(?<short>") < 0) || (source.indexOf("(?<day>") >= 0 && !hasMonth)) {
            throw new Refused("the date format '" + format + "' has no year, or a day but no month");
        }
        try {
            return Pattern.compile(source.toString(), Pattern.CASE_INSENSITIVE); // of ASCII letters only
        } catch (PatternSyntaxException error) {
            throw new Refused("the date format '" + format + "' names a part of the date twice");
        }
    }
}
