package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/functions"
)

// function returns the function in the body, checked.
func (r *request) function() (functions.Function, error) {
	var body edge.Deploy
	if err := r.decode(&body); err != nil {
		return functions.Function{}, err
	}
	f, err := build(body)
	if _, ok := errors.AsType[functions.Faults](err); ok {
		return f, err
	}
	if err != nil {
		return f, invalid("", "%v", err)
	}
	if name := r.PathValue("function"); f.Name() != name {
		return f, invalid("", "the path names the function %.63q, its manifest %q", name, f.Name())
	}
	return f, nil
}

func build(d edge.Deploy) (functions.Function, error) {
	switch {
	case d.Function != nil && (d.Manifest != nil || d.Code != ""):
		return functions.Function{}, errors.New("function goes with neither manifest nor code")
	case d.Function != nil:
		return *d.Function, d.Function.Verify()
	case d.Manifest == nil:
		return functions.Function{}, errors.New("neither function nor manifest is given")
	}
	text := []byte(d.Manifest)
	var yaml string
	if json.Unmarshal(text, &yaml) == nil {
		text = []byte(yaml)
	}
	m, err := functions.Parse("", text)
	if err != nil {
		return functions.Function{}, err
	}
	return functions.New(m, d.Code)
}

// intent reads who asks for a change, and on what condition.
func (r *request) intent() (in ledger.Intent, err error) {
	if in.By, err = r.by(); err != nil {
		return in, err
	}
	if in.Absent, err = r.absent(); err != nil {
		return in, err
	}
	tag, err := r.tag()
	in.Expect = functions.Revision(tag)
	return in, err
}

func noFunction(name string) error {
	return &edge.Error{Code: edge.NotFound, Message: fmt.Sprintf("there is no function %.63q", name)}
}

// noRevision says of which function which revision was not found.
func noRevision(err error, name, revision string) error {
	switch {
	case errors.Is(err, ledger.ErrNotFound) && revision == "":
		return &edge.Error{Code: edge.NotFound, Message: fmt.Sprintf("%.63q has no earlier revision", name)}
	case errors.Is(err, ledger.ErrNotFound):
		return &edge.Error{Code: edge.NotFound, Message: fmt.Sprintf("%.63q has no revision %.64q", name, revision), Hint: "its history has those there are"}
	case errors.Is(err, ledger.ErrAmbiguous):
		return invalid("give more of its digits", "more than one revision of %.63q begins with %.64q", name, revision)
	}
	return err
}

// refusals are the functions that the node would not take, with the reason.
type refusals struct {
	mu      sync.Mutex
	reasons map[string]string // guarded by mu
}

func (r *refusals) set(name string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		delete(r.reasons, name)
		return
	}
	if r.reasons == nil {
		r.reasons = map[string]string{}
	}
	r.reasons[name] = told(err).Message
}

func (r *refusals) reason(name string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reasons[name]
}
