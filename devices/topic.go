package devices

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxWireTopic is the longest topic or filter, in bytes, that MQTT can carry.
const maxWireTopic = 65535

// CheckTopic returns nil if a message may be published to topic: MQTT 3.1.1
// wants 1 to 65,535 bytes of UTF-8 without NUL and without the wildcards + and
// #. Topics of messages that are to reach a function are also no longer than
// [MaxTopic], which CheckTopic does not ask for.
func CheckTopic(topic string) error {
	if err := checkText(topic); err != nil {
		return fmt.Errorf("topic %s: %w", brief(topic), err)
	}
	if strings.ContainsAny(topic, "+#") {
		return fmt.Errorf("topic %s: holds a wildcard", brief(topic))
	}
	return nil
}

// ExpandTopic fills each {name} of template with the capture of that name. The
// result is a valid topic, or an error says why there is none.
func ExpandTopic(template string, captures []Capture) (string, error) {
	var topic strings.Builder
	for rest := template; ; {
		text, after, found := strings.Cut(rest, "{")
		if strings.Contains(text, "}") {
			return "", fmt.Errorf("topic template %s: } without {", brief(template))
		}
		topic.WriteString(text)
		if !found {
			break
		}
		name, after, found := strings.Cut(after, "}")
		if !found {
			return "", fmt.Errorf("topic template %s: { without }", brief(template))
		}
		value, ok := capture(captures, name)
		if !ok {
			return "", fmt.Errorf("topic template %s: nothing is captured as {%s}", brief(template), name)
		}
		topic.WriteString(value)
		rest = after
	}
	if err := CheckTopic(topic.String()); err != nil {
		return "", fmt.Errorf("topic template %s: %w", brief(template), err)
	}
	return topic.String(), nil
}

func capture(captures []Capture, name string) (value string, ok bool) {
	for _, c := range captures {
		if c.Name == name {
			return c.Value, true
		}
	}
	return "", false
}

// checkText holds what topics and filters have in common.
func checkText(s string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > maxWireTopic:
		return fmt.Errorf("is longer than %d bytes", maxWireTopic)
	case !utf8.ValidString(s):
		return errors.New("is not UTF-8")
	case strings.IndexByte(s, 0) >= 0:
		return errors.New("holds a NUL")
	}
	return nil
}

// brief quotes s for an error message, cut where it is long.
func brief(s string) string {
	const enough = 80
	if len(s) <= enough {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q…", s[:enough])
}
