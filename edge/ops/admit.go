package ops

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/sedge-iot/sedge/edge"
)

// Admit returns an error for what a web page may have sent, or a name that
// someone has pointed at this machine: Host must be a loopback name with the port
// at which the request arrived, and Origin, where it is sent, the same.
func Admit(r *http.Request) *edge.Error {
	port := arrivedAt(r)
	host, named := hostPort(r)
	if port == "" || named != port || !isLoopback(host) {
		return &edge.Error{
			Code:    edge.Misdirected,
			Message: fmt.Sprintf("this API is not served under the name %.100q", r.Host),
			Hint:    "ask by a loopback address and the port, like 127.0.0.1:" + port,
		}
	}
	return origin(r)
}

// AdmitAbroad is Admit for a listener that other machines may reach. An address
// of any kind is right then, and the name of this machine, alone or as mDNS has
// it; the port may be another one, for there may be something in between. Other
// names are refused: a web page can have its own point anywhere.
func AdmitAbroad(r *http.Request) *edge.Error {
	host, _ := hostPort(r)
	mine, err := os.Hostname()
	named := err == nil && (strings.EqualFold(host, mine) || strings.EqualFold(host, mine+".local"))
	if !named && !isLoopback(host) && net.ParseIP(host) == nil {
		return &edge.Error{
			Code:    edge.Misdirected,
			Message: fmt.Sprintf("this API is not served under the name %.100q", r.Host),
			Hint:    "ask by an address of this machine, or by its host name",
		}
	}
	return origin(r)
}

// AdmitNames is AdmitAbroad for a server that has been told its names.
func AdmitNames(names []string) func(*http.Request) *edge.Error {
	return func(r *http.Request) *edge.Error {
		host, _ := hostPort(r)
		for _, name := range names {
			if strings.EqualFold(host, name) {
				return origin(r)
			}
		}
		return AdmitAbroad(r)
	}
}

func origin(r *http.Request) *edge.Error {
	for _, origin := range r.Header.Values("Origin") {
		if origin != scheme(r)+r.Host {
			return &edge.Error{Code: edge.Misdirected, Message: fmt.Sprintf("pages of %.100q may not use this API", origin)}
		}
	}
	return nil
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https://"
	}
	return "http://"
}

// arrivedAt returns the port of the listener that took the request, or "".
func arrivedAt(r *http.Request) string {
	at, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if at == nil {
		return ""
	}
	_, port, err := net.SplitHostPort(at.String())
	if err != nil {
		return ""
	}
	return port
}

// hostPort splits the request's Host.
func hostPort(r *http.Request) (host, port string) {
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil { // without a port
		return strings.Trim(r.Host, "[]"), "80"
	}
	return host, port
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
