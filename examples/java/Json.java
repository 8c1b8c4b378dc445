import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/** JSON to Java values and back: Map, List, String, Boolean, null, and Number, which keeps the digits that were written. */
final class Json {
    private static final int DEPTH = 32;

    /** A number as it was written: a float64 would lose the last digits of long whole numbers, which can be categories. */
    record Number(String text) {
        double value() {
            return Double.parseDouble(text);
        }
    }

    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    /** Reads values that follow one another; a key that stands twice in an object, NaN and Infinity are refused. */
    static List<Object> read(String text, String file) {
        Json json = new Json(text);
        List<Object> values = new ArrayList<>();
        try {
            for (json.blanks(); json.at < text.length(); json.blanks()) {
                values.add(json.value(0));
            }
            return values;
        } catch (StringIndexOutOfBoundsException | NumberFormatException error) {
            throw new Refused(file + " is not JSON: it ends within a value or has a wrong escape");
        } catch (Refused error) {
            throw new Refused(file + " is not JSON: " + error.getMessage());
        }
    }

    static String write(Object value) {
        if (value instanceof Map<?, ?> map) {
            return map.entrySet().stream()
                .map(entry -> quoted((String) entry.getKey()) + ":" + write(entry.getValue()))
                .collect(Collectors.joining(",", "{", "}"));
        }
        if (value instanceof List<?> list) {
            return list.stream().map(Json::write).collect(Collectors.joining(",", "[", "]"));
        }
        return value instanceof String string ? quoted(string) : value instanceof Number number ? number.text() : String.valueOf(value);
    }

    private Object value(int depth) {
        if (depth > DEPTH) {
            fail("it is more than " + DEPTH + " levels deep");
        }
        blanks();
        return switch (text.charAt(at)) {
            case '{' -> object(depth);
            case '[' -> list(depth);
            case '"' -> string();
            default -> word();
        };
    }

    private Map<String, Object> object(int depth) {
        Map<String, Object> map = new LinkedHashMap<>();
        at++;
        blanks();
        for (boolean first = true; text.charAt(at) != '}'; first = false) {
            if (!first) {
                expect(',');
            }
            blanks();
            String key = string();
            expect(':');
            if (map.containsKey(key)) {
                fail("the key " + quoted(key) + " stands twice");
            }
            map.put(key, value(depth + 1));
            blanks();
        }
        at++;
        return map;
    }

    private List<Object> list(int depth) {
        List<Object> list = new ArrayList<>();
        at++;
        blanks();
        while (text.charAt(at) != ']') {
            if (!list.isEmpty()) {
                expect(',');
            }
            list.add(value(depth + 1));
            blanks();
        }
        at++;
        return list;
    }

    private String string() {
        StringBuilder out = new StringBuilder();
        expect('"');
        for (char sign = text.charAt(at++); sign != '"'; sign = text.charAt(at++)) {
            if (sign < ' ') {
                fail("a text has a control character");
            }
            out.append(sign == '\\' ? escaped() : sign);
        }
        return out.toString();
    }

    private char escaped() {
        char sign = text.charAt(at++);
        if (sign == 'u') {
            at += 4;
            return (char) Integer.parseInt(text, at - 4, at, 16);
        }
        int place = "\"\\/bfnrt".indexOf(sign);
        return place < 0 ? (char) fail("a text has the escape \\" + sign) : "\"\\/\b\f\n\r\t".charAt(place);
    }

    private Object word() {
        int start = at;
        while (at < text.length() && ",]}[{\" \t\r\n".indexOf(text.charAt(at)) < 0) {
            at++;
        }
        String word = text.substring(start, at);
        return switch (word) {
            case "true" -> true;
            case "false" -> false;
            case "null" -> null;
            default -> word.matches("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?") ? new Number(word) : fail("'" + word + "' is no value");
        };
    }

    private void blanks() {
        while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private void expect(char sign) {
        blanks();
        if (text.charAt(at++) != sign) {
            at--;
            fail("'" + sign + "' is expected");
        }
    }

    private Object fail(String why) {
        throw new Refused(why + " (character " + at + ")");
    }

    private static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char sign : text.toCharArray()) {
            int place = "\"\\\b\f\n\r\t".indexOf(sign);
            out.append(place >= 0 ? "\\" + "\"\\bfnrt".charAt(place) : sign < ' ' ? String.format("\\u%04x", (int) sign) : sign);
        }
        return out.append('"').toString();
    }
}
