package node

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestWithoutATokenTriggersAreForThisMachine(t *testing.T) {
	served := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {})
	for name, tt := range map[string]struct {
		host, origin string
		want         int
	}{
		"address":           {"127.0.0.1:7789", "", 200},
		"name":              {"LocalHost:7789", "", 200},
		"v6":                {"[::1]:7789", "", 200},
		"no port":           {"[::1]", "", 421},
		"page of its own":   {"127.0.0.1:7789", "http://127.0.0.1:7789", 200},
		"rebound name":      {"evil.example:7789", "", 421},
		"name that begins":  {"127.0.0.1.evil.example:7789", "", 421},
		"other address":     {"192.168.0.1:7789", "", 421},
		"nothing":           {"", "", 421},
		"page of elsewhere": {"127.0.0.1:7789", "http://evil.example", 421},
		"page of a file":    {"127.0.0.1:7789", "null", 421},
		"page over TLS":     {"127.0.0.1:7789", "https://127.0.0.1:7789", 421},
	} {
		ask := func(n *Node, token string) int {
			at := context.WithValue(t.Context(), http.LocalAddrContextKey, net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:7789")))
			r := httptest.NewRequestWithContext(at, http.MethodPost, "/", nil)
			r.Host = tt.host
			r.Header.Set("Authorization", token)
			if tt.origin != "" {
				r.Header.Set("Origin", tt.origin)
			}
			w := httptest.NewRecorder()
			n.guarded(served).ServeHTTP(w, r)
			return w.Code
		}
		if got := ask(&Node{}, ""); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
		if got := ask(&Node{token: "secret"}, "Bearer secret"); got != 200 {
			t.Errorf("%s: %d with the token, want 200", name, got)
		}
	}
}
