package hub_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/edge"
)

func readAPI(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("API.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheDocumentHasEveryRouteAndNoOther(t *testing.T) {
	h := build(t, newNode(), t.TempDir())
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^### (.*)$`).FindAllStringSubmatch(readAPI(t), -1) {
		got = append(got, m[1])
	}
	slices.Sort(got)
	if want := slices.Sorted(maps.Keys(h.hub.Routes())); !slices.Equal(got, want) {
		t.Errorf("API.md has\n%s\nthe hub serves\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTheDocumentHasEveryErrorWithItsStatus(t *testing.T) {
	text := readAPI(t)
	for _, code := range []edge.Code{
		edge.Invalid, edge.NotFound, edge.Conflict, edge.Unconfirmed, edge.Denied, edge.Forbidden, edge.Misdirected,
		edge.TooLarge, edge.NoRoom, edge.Method, edge.Timeout, edge.Unavailable, edge.Internal,
	} {
		if line := fmt.Sprintf("| `%s` | %d |", code, code.Status()); !strings.Contains(text, line) {
			t.Errorf("API.md has no line %q", line)
		}
	}
}
