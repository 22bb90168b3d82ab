// Somebody moves in the dark: the hall lamp goes on.
export function handle(event, sedge) {
  sedge.log(`motion at ${event.captures.device}`);
  return { state: "ON", brightness: Number(sedge.env.LEVEL) };
}
