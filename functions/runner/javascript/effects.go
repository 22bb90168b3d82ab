package javascript

import (
	"fmt"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/runner"
)

// effects gathers what a handler asks for, up to the limit of an outcome.
type effects struct {
	functions.Effects
	weight int
	timers int // names made up so far
}

func (e *effects) add(weight int) error {
	e.weight += weight
	if e.weight > functions.MaxResult {
		return fmt.Errorf("effects are over %d bytes", functions.MaxResult)
	}
	if len(e.Publish)+len(e.State)+len(e.Timers) >= runner.MaxEffects {
		return fmt.Errorf("more than %d effects", runner.MaxEffects)
	}
	return nil
}

func (e *effects) publish(p devices.Publication) error {
	if err := e.add(runner.WeighPublication(p)); err != nil {
		return err
	}
	e.Publish = append(e.Publish, p)
	return nil
}

func (e *effects) write(w functions.StateWrite) error {
	if err := e.add(len(w.Key) + len(w.Value)); err != nil {
		return err
	}
	e.State = append(e.State, w)
	return nil
}

func (e *effects) timer(t functions.TimerWrite) error {
	if err := e.add(len(t.Key) + len(t.Payload)); err != nil {
		return err
	}
	e.Timers = append(e.Timers, t)
	return nil
}

// checkTTL returns an error for a lifetime that cannot be.
func checkTTL(d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("ttl %v is in the past", d)
	}
	return nil
}
