// Somebody moves in the dark: the lamp of that room goes on.
export function handle(event, sedge) {
  const room = event.captures.device.replace(/_motion$/, "");
  sedge.publish(`zigbee2mqtt/${room}_lamp/set`, { state: "ON", brightness: 80 }, { qos: 1 });
}
