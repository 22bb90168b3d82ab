package edge

import (
	"fmt"

	"github.com/sedge-iot/sedge/functions"
)

// A Parcel is a function that is fetched by itself, to be tried, without being part of
// what the node is to run. It is pure, and used from one goroutine at a time.
type Parcel struct {
	ref  Ref
	part part
}

// NewParcel begins to fetch the function of which f has only name and revision. The
// error says that it has not.
func NewParcel(f functions.Function) (*Parcel, error) {
	if err := checkName(f.Name()); err != nil {
		return nil, err
	}
	if err := checkRevision(f.Revision); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return &Parcel{ref: Ref{Name: f.Name(), Revision: f.Revision}, part: part{revision: f.Revision}}, nil
}

// Fetch returns what to ask for next.
func (p *Parcel) Fetch() *Fetch { return &Fetch{Revision: p.ref.Revision, Offset: len(p.part.data)} }

// Take takes a chunk, and returns the function once it is whole, else nil. A chunk that does
// not follow on what is there is passed over. The error says why the function cannot be had.
func (p *Parcel) Take(c *Chunk) (*functions.Function, error) {
	if c.Revision != p.ref.Revision || c.Offset != len(p.part.data) {
		return nil, nil
	}
	if no := p.part.take(c); no != nil {
		return nil, fmt.Errorf("fetch %s: %s", p.ref.Name, no.Why)
	}
	if len(p.part.data) < p.part.total {
		return nil, nil
	}
	f, err := open(p.part.data, p.ref)
	if err != nil {
		return nil, fmt.Errorf("fetch %w", err)
	}
	return &f, nil
}
