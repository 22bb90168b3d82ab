package edge

import (
	"net/http"

	"github.com/sedge-iot/sedge/functions"
)

// An Error is what the API answers when it cannot do what was asked.
type Error struct {
	Code    Code             `json:"code"`
	Message string           `json:"message"`          // what failed and why
	Hint    string           `json:"hint,omitempty"`   // what to do next
	Faults  functions.Faults `json:"faults,omitempty"` // all that is wrong with a manifest, or nil
}

func (e *Error) Error() string { return e.Message }

// A Code names a kind of error. The strings are the API's.
type Code string

// The kinds of errors; [Code.Status] gives the HTTP status of each.
const (
	Invalid     Code = "invalid"
	NotFound    Code = "not_found"
	Conflict    Code = "conflict"
	Unconfirmed Code = "unconfirmed" // it would take much away, and whoever asks has not said that he knows
	Denied      Code = "denied"      // no token, or a wrong one
	Forbidden   Code = "forbidden"   // a token, but not for this
	Misdirected Code = "misdirected" // a Host or Origin that is not ours
	TooLarge    Code = "too_large"
	NoRoom      Code = "no_room" // a quota is used up
	Method      Code = "method"
	Timeout     Code = "timeout"
	Unavailable Code = "unavailable" // not now; trying again may help
	Internal    Code = "internal"
)

// Status returns the HTTP status of the kind.
func (c Code) Status() int {
	switch c {
	case Invalid:
		return http.StatusBadRequest
	case NotFound:
		return http.StatusNotFound
	case Conflict, Unconfirmed:
		return http.StatusConflict
	case Denied:
		return http.StatusUnauthorized
	case Forbidden:
		return http.StatusForbidden
	case Misdirected:
		return http.StatusMisdirectedRequest
	case TooLarge:
		return http.StatusRequestEntityTooLarge
	case NoRoom:
		return http.StatusInsufficientStorage
	case Method:
		return http.StatusMethodNotAllowed
	case Timeout:
		return http.StatusRequestTimeout
	case Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
