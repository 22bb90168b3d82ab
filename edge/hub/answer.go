package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/functions"
)

// A request is one call of the API whose body is read.
type request struct {
	*http.Request
	body   []byte
	header http.Header // of the answer
}

// json returns a handler that answers with what do returns, nothing for nil.
func (h *Hub) json(do func(*request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := h.body(w, r)
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		answer, err := do(&request{r, body, w.Header()})
		switch {
		case err != nil:
			h.refuse(w, r, err)
		case answer == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			h.answer(w, r, http.StatusOK, answer)
		}
	}
}

// body reads the whole body.
func (h *Hub) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, &edge.Error{Code: edge.TooLarge, Message: fmt.Sprintf("the body is larger than %d MiB", maxBody>>20)}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, &edge.Error{Code: edge.Timeout, Message: fmt.Sprintf("the body did not come within %v", h.bodyTime)}
	}
	if err != nil {
		return nil, &edge.Error{Code: edge.Invalid, Message: "the body broke off or is malformed"}
	}
	http.NewResponseController(w).SetReadDeadline(time.Time{})
	return body, nil
}

// answer writes v as the answer.
func (h *Hub) answer(w http.ResponseWriter, r *http.Request, status int, v any) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		h.Logger.Error("answer cannot be encoded", "method", r.Method, "path", r.URL.Path, "err", err)
		text.Reset()
		status = http.StatusInternalServerError
		json.NewEncoder(&text).Encode(failure{internal()}) // texts only: never fails
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(text.Bytes()) // who asked may have gone
}

// A failure is the JSON of an error.
type failure struct {
	Error *edge.Error `json:"error"`
}

// refuse answers with an error. What is not meant for who asks stays here.
func (h *Hub) refuse(w http.ResponseWriter, r *http.Request, err error) {
	e := told(err)
	if e.Code == edge.Internal {
		h.Logger.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		e = internal()
	}
	h.answer(w, r, e.Code.Status(), failure{e})
}

// told returns err as who asks may see it.
func told(err error) *edge.Error {
	if e, ok := errors.AsType[*edge.Error](err); ok {
		return e
	}
	if faults, ok := errors.AsType[functions.Faults](err); ok {
		return &edge.Error{Code: edge.Invalid, Message: faults.Error(), Faults: faults}
	}
	if errors.Is(err, ledger.ErrRolling) {
		return &edge.Error{Code: edge.Conflict, Message: err.Error(), Hint: "wait for its end, or end it with: sedge rollout abort FUNCTION"}
	}
	if errors.Is(err, ledger.ErrConflict) {
		return &edge.Error{Code: edge.Conflict, Message: err.Error(), Hint: "someone else changed it: look at it, then try again"}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return &edge.Error{Code: edge.Unavailable, Message: "it took too long and was given up", Hint: "try again"}
	}
	return internal()
}

func internal() *edge.Error {
	return &edge.Error{Code: edge.Internal, Message: "something went wrong inside the hub", Hint: "its log has the reason"}
}

func invalid(hint, format string, args ...any) error {
	return &edge.Error{Code: edge.Invalid, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// decode reads the body, one JSON value without unknown fields, into v. An
// empty body leaves v as it is.
func (r *request) decode(v any) error {
	dec := json.NewDecoder(bytes.NewReader(r.body))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == io.EOF {
		return nil
	}
	if err != nil {
		return invalid("", "read body: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := dec.Token(); err != io.EOF {
		return invalid("", "read body: something follows the JSON value")
	}
	return nil
}
