package hub

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/functions"
)

// function returns the function in the body, checked, and what else the body asks for.
func (r *request) function() (f functions.Function, body edge.Deploy, err error) {
	if err := r.decode(&body); err != nil {
		return f, body, err
	}
	f, err = build(body)
	if _, ok := errors.AsType[functions.Faults](err); ok {
		return f, body, err
	}
	if err != nil {
		return f, body, invalid("", "%v", err)
	}
	if name := r.PathValue("function"); f.Name() != name {
		return f, body, invalid("", "the path names the function %.63q, its manifest %q", name, f.Name())
	}
	return f, body, nil
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
	who, err := r.who()
	if err != nil {
		return in, err
	}
	in.By, in.Address = who.By, who.Address
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
