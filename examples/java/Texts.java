import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** How texts are read as the values of one feature, and which values are missing: its text_rule, step by step as docs/bundle.md has it. */
final class Texts {
    private static final Pattern NUMBER = Pattern.compile("[+-]?([0-9]+\\.?[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?");
    private static final Pattern HEXADECIMAL = Pattern.compile("([+-]?)0[xX]([0-9a-fA-F]{1,16})");
    private static final Pattern INFINITE = Pattern.compile("[+-]?inf(inity)?", Pattern.CASE_INSENSITIVE); // of ASCII letters only
    private static final Pattern NAN = Pattern.compile("[+-]?nan(\\([^()]*\\))?", Pattern.CASE_INSENSITIVE);
    private static final Pattern WHOLE = Pattern.compile("[+-]?[0-9]+");
    private static final String BLANKS = "\t\n\u000b\f\r\u001c\u001d\u001e\u001f \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
        + "\u2028\u2029\u202f\u205f\u3000";
    private static final List<String> USUAL = List.of("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "none", "#N/A", "?");
    private static final List<String> FIELDS = List.of("missing", "usual_missing", "strip", "decimal", "thousands", "affixes", "date_format");

    private final Map<?, ?> rule;
    private final String kind, type, decimal, thousands;
    private final List<String> missing, spellings, affixes;
    private final List<Double> missingNumbers, missingDates;
    private final List<Json.Number> missingCategories;
    private final Dates dates;

    private Texts(Map<String, Object> feature, Map<?, ?> rule) {
        this.rule = rule;
        kind = (String) feature.get("kind");
        type = (String) feature.get("value_type");
        for (Object field : rule.keySet()) {
            check(FIELDS.contains(field), String.valueOf(field));
        }
        missing = texts("missing", 0, 1000);
        spellings = new ArrayList<>(missing);
        spellings.addAll(flag("usual_missing", true) ? USUAL : List.of(""));
        flag("strip", false);
        decimal = sign("decimal", ".", List.of(".", ","));
        thousands = sign("thousands", "", List.of("", ",", ".", " ", "'", "_"));
        check(!thousands.equals(decimal), "thousands");
        affixes = texts("affixes", 1, 100);
        Object format = rule.get("date_format");
        check(format == null || isText(format, 1, 100), "date_format");
        dates = new Dates((String) format);
        List<String> bare = missing.stream().map(Texts::stripped).toList();
        missingNumbers = bare.stream().map(this::number).filter(Objects::nonNull).toList();
        missingDates = bare.stream().map(dates::find).filter(Objects::nonNull).toList();
        missingCategories = bare.stream().map(text -> WHOLE.matcher(text).matches() ? new Json.Number(text) : read(text))
            .filter(Json.Number.class::isInstance).map(Json.Number.class::cast).toList();
    }

    /** Returns the rule of a feature; null if it has none. */
    static Texts of(Map<String, Object> feature) {
        Object rule = feature.get("text_rule");
        if (rule != null && !(rule instanceof Map<?, ?>)) {
            throw new Refused("text_rule of a feature is no object");
        }
        return rule == null ? null : new Texts(feature, (Map<?, ?>) rule);
    }

    Dates dates() {
        return dates;
    }

    /** Returns the JSON value that a value means: null for a missing value; a text that is not read stays one. */
    Object value(Object value) {
        Object read = value;
        if (value instanceof String text && kind.equals("categorical")) {
            String bare = flag("strip", false) ? stripped(text) : text;
            return missing.contains(bare) ? null : bare;
        }
        if (value instanceof String text) {
            String bare = stripped(text);
            if (spellings.contains(bare) || (kind.equals("numeric") && NAN.matcher(bare).matches())) {
                return null;
            }
            read = kind.equals("date") ? bare : read(bare);
        }
        return read instanceof Json.Number number && isMissing(number) ? null : read;
    }

    /** Whether an instant in seconds since 1970 is that of a missing value. */
    boolean isMissing(double seconds) {
        return missingDates.stream().anyMatch(found -> found == seconds);
    }

    private boolean isMissing(Json.Number number) {
        return switch (kind) {
            case "date" -> false;
            case "numeric" -> missingNumbers.stream().anyMatch(found -> found == number.value());
            default -> missingCategories.stream().anyMatch(found -> isSame(found, number));
        };
    }

    private static boolean isSame(Json.Number one, Json.Number other) {
        BigDecimal left = exact(one), right = exact(other);
        return left == null || right == null ? left == right && one.value() == other.value() : left.compareTo(right) == 0;
    }

    /** A whole number in digits as it is, any other as the float64 that it is read as; null for an infinite one. */
    static BigDecimal exact(Json.Number number) {
        if (WHOLE.matcher(number.text()).matches()) {
            return new BigDecimal(number.text());
        }
        return Double.isInfinite(number.value()) ? null : new BigDecimal(number.value());
    }

    private Object read(String text) {
        if (type.equals("boolean") && (text.equalsIgnoreCase("true") || text.equalsIgnoreCase("false"))) {
            return text.equalsIgnoreCase("true");
        }
        Double found = number(text);
        return found == null ? text : new Json.Number(found.toString()); // its digits read back to the same float64
    }

    /** Returns the number, infinities included, that a text without blanks around it means; null if it is not a number. */
    private Double number(String text) {
        Double found = decimal.equals(".") ? plain(text) : null;
        if (found != null || (decimal.equals(".") && thousands.isEmpty() && affixes.isEmpty())) {
            return found;
        }
        String sign = isSigned(text) ? text.substring(0, 1) : "";
        String rest = sign.isEmpty() ? text : text.substring(blanksBefore(text, 1));
        for (String affix : affixes) {
            rest = rest.startsWith(affix) ? rest.substring(affix.length()) : rest;
            rest = rest.substring(blanksBefore(rest, 0));
            rest = rest.endsWith(affix) ? rest.substring(0, rest.length() - affix.length()) : rest;
            rest = rest.substring(0, blanksAfter(rest, 0));
        }
        String bare = !sign.isEmpty() && isSigned(rest) ? null : pointed(sign + rest);
        return bare == null ? null : plain(bare);
    }

    /** Returns a number with a decimal point and without separators; null if its groups or signs are wrong. */
    private String pointed(String text) {
        int point = text.indexOf(decimal);
        String whole = point < 0 ? text : text.substring(0, point), fraction = point < 0 ? "" : text.substring(point + 1);
        if (thousands.equals(" ")) {
            whole = whole.replace('\u00a0', ' ').replace('\u202f', ' ');
        }
        if (!thousands.isEmpty() && whole.contains(thousands)) {
            if (!whole.matches("[+-]?[0-9]{1,3}(" + Pattern.quote(thousands) + "[0-9]{3})+")) {
                return null;
            }
            whole = whole.replace(thousands, "");
        }
        return decimal.equals(",") && (whole + fraction).contains(".") ? null : whole + (point < 0 ? "" : ".") + fraction;
    }

    private static Double plain(String text) {
        if (NUMBER.matcher(text).matches()) {
            return Double.valueOf(text);
        }
        Matcher digits = HEXADECIMAL.matcher(text);
        if (digits.matches()) {
            return new BigInteger(digits.group(1) + digits.group(2), 16).doubleValue();
        }
        return !INFINITE.matcher(text).matches() ? null : text.startsWith("-") ? Double.NEGATIVE_INFINITY : Double.POSITIVE_INFINITY;
    }

    private static boolean isSigned(String text) {
        return text.startsWith("+") || text.startsWith("-");
    }

    private static String stripped(String text) {
        int start = blanksBefore(text, 0);
        return text.substring(start, blanksAfter(text, start));
    }

    private static int blanksBefore(String text, int start) {
        int place = start;
        while (place < text.length() && BLANKS.indexOf(text.charAt(place)) >= 0) {
            place++;
        }
        return place;
    }

    private static int blanksAfter(String text, int start) {
        int end = text.length();
        while (end > start && BLANKS.indexOf(text.charAt(end - 1)) >= 0) {
            end--;
        }
        return end;
    }

    private boolean flag(String field, boolean usual) {
        Object value = rule.containsKey(field) ? rule.get(field) : usual;
        check(value instanceof Boolean, field);
        return (Boolean) value;
    }

    private String sign(String field, String usual, List<String> allowed) {
        Object value = rule.containsKey(field) ? rule.get(field) : usual;
        check(value != null && allowed.contains(value), field);
        return (String) value;
    }

    private List<String> texts(String field, int least, int most) {
        List<String> found = new ArrayList<>();
        Object value = rule.containsKey(field) ? rule.get(field) : List.of();
        check(value instanceof List<?>, field);
        for (Object text : (List<?>) value) {
            check(isText(text, least, most), field);
            found.add((String) text);
        }
        return found;
    }

    private static boolean isText(Object value, int least, int most) {
        return value instanceof String text && text.codePointCount(0, text.length()) >= least && text.codePointCount(0, text.length()) <= most;
    }

    private static void check(boolean isRight, String field) {
        if (!isRight) {
            throw new Refused("bundle.json has a text_rule whose field '" + field + "' is unknown or has another value than docs/bundle.md allows");
        }
    }
}
