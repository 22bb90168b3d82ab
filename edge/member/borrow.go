package member

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// desks are where chunks of functions are waited for that are only to be tried.
type desks struct {
	mu   sync.Mutex
	open []chan *edge.Chunk // guarded by mu
}

// brought hands a chunk to those who wait for some. Who has not taken the one before asks
// again.
func (d *desks) brought(c *edge.Chunk) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, desk := range d.open {
		select {
		case desk <- c:
		default:
		}
	}
}

// take opens a desk, until close is called.
func (d *desks) take() (desk chan *edge.Chunk, close func()) {
	desk = make(chan *edge.Chunk, 1)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = append(d.open, desk)
	return desk, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.open = slices.DeleteFunc(d.open, func(other chan *edge.Chunk) bool { return other == desk })
	}
}

// whole returns f, which it fetches if only its name and revision have come.
func (c *calls) whole(ctx context.Context, f functions.Function) (functions.Function, error) {
	if f.Manifest.Kind != "" {
		return f, nil
	}
	parcel, err := edge.NewParcel(f)
	if err != nil {
		return f, &edge.Error{Code: edge.Invalid, Message: err.Error()}
	}
	desk, close := c.desks.take()
	defer close()
	for {
		if err := c.node.mayFetch(ctx); err != nil {
			return f, err
		}
		asked := parcel.Fetch()
		c.send(asked)
		got, err := next(ctx, desk, parcel, asked.Offset)
		if err != nil {
			return f, &edge.Error{Code: edge.Unavailable, Message: err.Error()}
		}
		if got != nil {
			return *got, nil
		}
	}
}

// next waits until the parcel has grown beyond so many bytes, but not for ever: then it is to
// be asked for again. It returns the function once that is whole.
func next(ctx context.Context, desk <-chan *edge.Chunk, parcel *edge.Parcel, beyond int) (*functions.Function, error) {
	again := time.NewTimer(edge.BeatTime)
	defer again.Stop()
	for {
		select {
		case chunk := <-desk:
			f, err := parcel.Take(chunk)
			if f != nil || err != nil || parcel.Fetch().Offset > beyond {
				return f, err
			}
		case <-again.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
