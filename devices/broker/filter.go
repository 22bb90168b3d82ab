package broker

import (
	"errors"
	"fmt"
	"strings"
)

// Filters here are MQTT's own. Those of package devices read {name} as a
// wildcard, which from a client would be a hole in the ACL.

// maxText is the longest client id and filter, in bytes, that a client may have,
// and the longest topic that is remembered when nothing is retained on it.
const maxText = 1024

// checkFilter returns nil if a client may subscribe to filter, as far as form goes.
func checkFilter(filter string) error {
	if filter == "" {
		return errors.New("filter is empty")
	}
	if len(filter) > maxText {
		return fmt.Errorf("filter is longer than %d bytes", maxText)
	}
	for rest, more := filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		switch {
		case level == "#" && more:
			return errors.New("# may only come last")
		case level != "#" && level != "+" && strings.ContainsAny(level, "+#"):
			return errors.New("a wildcard takes up a whole level")
		}
	}
	return nil
}

// unshare splits $share/GROUP/FILTER. The group of any other filter is "".
func unshare(filter string) (group, path string) {
	if rest, ok := strings.CutPrefix(filter, "$share/"); ok {
		group, path, _ = strings.Cut(rest, "/")
		return group, path
	}
	return "", filter
}

// matches reports whether filter means topic.
func matches(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && wild(filter) {
		return false
	}
	for {
		f, filterRest, filterMore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, topicRest, topicMore := strings.Cut(topic, "/")
		switch {
		case f != "+" && f != t:
			return false
		case !topicMore:
			return !filterMore || filterRest == "#"
		case !filterMore:
			return false
		}
		filter, topic = filterRest, topicRest
	}
}

// covers reports whether filter means every topic that other means.
func covers(filter, other string) bool {
	if strings.HasPrefix(other, "$") && wild(filter) {
		return false
	}
	for {
		f, filterRest, filterMore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		o, otherRest, otherMore := strings.Cut(other, "/")
		switch {
		case o == "#" || f != "+" && f != o:
			return false
		case !otherMore:
			return !filterMore || filterRest == "#"
		case !filterMore:
			return false
		}
		filter, other = filterRest, otherRest
	}
}

func wild(filter string) bool {
	return strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")
}
