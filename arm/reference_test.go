package arm

import (
	"strings"
	"testing"
)

func TestAReferenceIsOneThatRegistriesTake(t *testing.T) {
	for _, c := range []struct{ version, want string }{
		{"v1.2.3", "v1.2.3"},
		{"v1.2.3-rc.1", "v1.2.3-rc.1"},
		{"v0.0.0-20261125223633-52cd6b32d4d5+dirty", "v0.0.0-20261125223633-52cd6b32d4d5-dirty"},
		{"(devel)", "devel"},
		{"v1/ä:x", "v1---x"},
		{strings.Repeat("v", 200), strings.Repeat("v", 128)},
	} {
		if got, want := AgentReference(c.version), AgentImage+":"+c.want; got != want {
			t.Errorf("AgentReference(%q) = %q, want %q", c.version, got, want)
		}
	}
}
