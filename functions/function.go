package functions

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"unicode/utf8"
)

// MaxCode is the most that a function's code may weigh, bytes.
const MaxCode = 1 << 20

// A Function is a manifest with its code, as it is deployed, sent and stored.
// It is immutable: a change makes another revision.
type Function struct {
	Manifest Manifest `json:"manifest"`
	Code     string   `json:"code,omitempty"` // the module's source, or "" for runtime image
	Revision Revision `json:"revision"`
}

// A Revision names manifest and code by their digest: 64 hexadecimal digits.
type Revision string

// Short returns the first 12 digits, enough for people.
func (r Revision) Short() string { return string(r[:min(12, len(r))]) }

// New makes a function of a manifest and the code that its source names. It
// checks both and fills in the defaults. The code of an inline source may be
// given as "". Its error is [Faults] if the manifest is at fault.
func New(m Manifest, code string) (Function, error) {
	if err := Validate(m); err != nil {
		return Function{}, err
	}
	m = withDefaults(m)
	if inline := m.Spec.Source.Inline; inline != "" {
		if code != "" && code != inline {
			return Function{}, errors.New("the code differs from the manifest's source.inline")
		}
		code = inline
	}
	if err := checkCode(m.Spec.Runtime, code); err != nil {
		return Function{}, err
	}
	revision, err := digest(m, code)
	if err != nil {
		return Function{}, fmt.Errorf("digest function: %w", err)
	}
	return Function{Manifest: m, Code: code, Revision: revision}, nil
}

func checkCode(runtime, code string) error {
	switch {
	case runtime == RuntimeImage && code != "":
		return errors.New("there is code, and runtime: image runs none")
	case runtime == RuntimeImage:
		return nil
	case code == "":
		return errors.New("the code is empty")
	case len(code) > MaxCode:
		return fmt.Errorf("the code weighs %d bytes, at most %d are taken", len(code), MaxCode)
	case !utf8.ValidString(code):
		return errors.New("the code is not UTF-8")
	}
	return nil
}

// Name returns the function's name.
func (f Function) Name() string { return f.Manifest.Metadata.Name }

// Verify checks a function that was sent or stored: the manifest by its rules,
// the code by its limits, and that the revision is that of the two.
func (f Function) Verify() error {
	made, err := New(f.Manifest, f.Code)
	if err != nil {
		return err
	}
	if made.Revision != f.Revision {
		return fmt.Errorf("the revision is %.64q, manifest and code have %s", string(f.Revision), made.Revision)
	}
	return nil
}

// digest returns the revision of a manifest, which has its defaults, and code:
// the SHA-256 of the manifest as canonical JSON without its source, a newline
// and the code. So the same code has the same revision whether it stands in
// the manifest or beside it, under whatever name.
func digest(m Manifest, code string) (Revision, error) {
	m.Spec.Source.Path, m.Spec.Source.Inline = "", ""
	text, err := canonical(m)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	h.Write(text)
	h.Write([]byte{'\n'})
	h.Write([]byte(code))
	return Revision(hex.EncodeToString(h.Sum(nil))), nil
}
