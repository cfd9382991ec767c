extension MetricsTests {
  /// What `GET /metrics` says about the fake service.
  static let golden = """
    # HELP swivel_info Always 1; the label says which swivel it is.
    # TYPE swivel_info gauge
    swivel_info{version="9.9.9"} 1
    # HELP swivel_uptime_seconds Seconds since the daemon started.
    # TYPE swivel_uptime_seconds gauge
    swivel_uptime_seconds 12.5
    # HELP swivel_log_lines_dropped_total Lines of the log that were not written, as nobody read it.
    # TYPE swivel_log_lines_dropped_total counter
    swivel_log_lines_dropped_total 5
    # HELP swivel_frames_total Frames of all ports there are or have been, by direction as the guest sees it.
    # TYPE swivel_frames_total counter
    swivel_frames_total{direction="transmitq"} 10
    swivel_frames_total{direction="receiveq"} 11
    # HELP swivel_bytes_total Bytes of those frames.
    # TYPE swivel_bytes_total counter
    swivel_bytes_total{direction="transmitq"} 1000
    swivel_bytes_total{direction="receiveq"} 1100
    # HELP swivel_replicas_total Copies beyond the first that floods made.
    # TYPE swivel_replicas_total counter
    swivel_replicas_total 2
    # HELP swivel_drops_total Frames that were not delivered, by reason.
    # TYPE swivel_drops_total counter
    swivel_drops_total{direction="transmitq",reason="noBuffer"} 1
    # HELP swivel_mac_table_capacity Addresses the MAC table has room for.
    # TYPE swivel_mac_table_capacity gauge
    swivel_mac_table_capacity 64
    # HELP swivel_mac_table_entries Addresses in the MAC table.
    # TYPE swivel_mac_table_entries gauge
    swivel_mac_table_entries 1
    # HELP swivel_mac_table_learned_total Addresses learned.
    # TYPE swivel_mac_table_learned_total counter
    swivel_mac_table_learned_total 4
    # HELP swivel_mac_table_moved_total Addresses that changed their port.
    # TYPE swivel_mac_table_moved_total counter
    swivel_mac_table_moved_total 1
    # HELP swivel_mac_table_limited_total Addresses that went because their port had its limit.
    # TYPE swivel_mac_table_limited_total counter
    swivel_mac_table_limited_total 6
    # HELP swivel_mac_table_evicted_total Addresses that went, or were not learned, because the table had no room.
    # TYPE swivel_mac_table_evicted_total counter
    swivel_mac_table_evicted_total 0
    # HELP swivel_mac_table_deferred_total Frames whose source address was not looked at, as too many before were new.
    # TYPE swivel_mac_table_deferred_total counter
    swivel_mac_table_deferred_total 7
    # HELP swivel_mac_table_aged_total Addresses removed because they were silent for too long.
    # TYPE swivel_mac_table_aged_total counter
    swivel_mac_table_aged_total 2
    # HELP swivel_port_state 1 for the state that the port is in, 0 for the others.
    # TYPE swivel_port_state gauge
    swivel_port_state{port="vm1",kind="vhost-user",state="waiting"} 0
    swivel_port_state{port="vm1",kind="vhost-user",state="connected"} 0
    swivel_port_state{port="vm1",kind="vhost-user",state="running"} 1
    swivel_port_state{port="vm1",kind="vhost-user",state="down"} 0
    swivel_port_state{port="vm1",kind="vhost-user",state="broken"} 0
    swivel_port_state{port="uplink",kind="tap",state="waiting"} 0
    swivel_port_state{port="uplink",kind="tap",state="connected"} 0
    swivel_port_state{port="uplink",kind="tap",state="running"} 1
    swivel_port_state{port="uplink",kind="tap",state="down"} 0
    swivel_port_state{port="uplink",kind="tap",state="broken"} 0
    swivel_port_state{port="vm2",kind="vhost-user",state="waiting"} 1
    swivel_port_state{port="vm2",kind="vhost-user",state="connected"} 0
    swivel_port_state{port="vm2",kind="vhost-user",state="running"} 0
    swivel_port_state{port="vm2",kind="vhost-user",state="down"} 0
    swivel_port_state{port="vm2",kind="vhost-user",state="broken"} 0
    # HELP swivel_port_faults_total Rings that broke, and what the front-end did against the protocol, by name.
    # TYPE swivel_port_faults_total counter
    swivel_port_faults_total{port="vm1",fault="avail_index_jump"} 2
    swivel_port_faults_total{port="vm1",fault="refused_request"} 1
    # HELP swivel_port_macs Addresses learned on the port.
    # TYPE swivel_port_macs gauge
    swivel_port_macs{port="vm1"} 1
    swivel_port_macs{port="uplink"} 0
    swivel_port_macs{port="vm2"} 0
    # HELP swivel_port_mac_limit Most addresses of a port that has a limit.
    # TYPE swivel_port_mac_limit gauge
    swivel_port_mac_limit{port="vm1"} 1024
    # HELP swivel_port_macs_learned_total Addresses of the port that were not known.
    # TYPE swivel_port_macs_learned_total counter
    swivel_port_macs_learned_total{port="vm1"} 5
    swivel_port_macs_learned_total{port="uplink"} 0
    swivel_port_macs_learned_total{port="vm2"} 0
    # HELP swivel_port_macs_moved_total Addresses of the port that were known on another.
    # TYPE swivel_port_macs_moved_total counter
    swivel_port_macs_moved_total{port="vm1"} 1
    swivel_port_macs_moved_total{port="uplink"} 0
    swivel_port_macs_moved_total{port="vm2"} 0
    # HELP swivel_port_macs_limited_total Addresses of the port that went because it had its limit.
    # TYPE swivel_port_macs_limited_total counter
    swivel_port_macs_limited_total{port="vm1"} 3
    swivel_port_macs_limited_total{port="uplink"} 0
    swivel_port_macs_limited_total{port="vm2"} 0
    # HELP swivel_port_macs_evicted_total Addresses that went for the port's, or of it that found no room.
    # TYPE swivel_port_macs_evicted_total counter
    swivel_port_macs_evicted_total{port="vm1"} 2
    swivel_port_macs_evicted_total{port="uplink"} 0
    swivel_port_macs_evicted_total{port="vm2"} 0
    # HELP swivel_port_macs_deferred_total Frames whose source address was not looked at, as too many before were new.
    # TYPE swivel_port_macs_deferred_total counter
    swivel_port_macs_deferred_total{port="vm1"} 9
    swivel_port_macs_deferred_total{port="uplink"} 0
    swivel_port_macs_deferred_total{port="vm2"} 0
    # HELP swivel_queue_state 1 for the state that the queue is in, 0 for the others.
    # TYPE swivel_queue_state gauge
    swivel_queue_state{port="vm1",queue="0",direction="receiveq",state="stopped"} 0
    swivel_queue_state{port="vm1",queue="0",direction="receiveq",state="disabled"} 0
    swivel_queue_state{port="vm1",queue="0",direction="receiveq",state="running"} 1
    swivel_queue_state{port="vm1",queue="0",direction="receiveq",state="broken"} 0
    swivel_queue_state{port="vm1",queue="1",direction="transmitq",state="stopped"} 0
    swivel_queue_state{port="vm1",queue="1",direction="transmitq",state="disabled"} 0
    swivel_queue_state{port="vm1",queue="1",direction="transmitq",state="running"} 0
    swivel_queue_state{port="vm1",queue="1",direction="transmitq",state="broken"} 1
    # HELP swivel_queue_frames_total transmitq: frames taken from the guest. receiveq: frames delivered.
    # TYPE swivel_queue_frames_total counter
    swivel_queue_frames_total{port="vm1",queue="0",direction="receiveq"} 11
    swivel_queue_frames_total{port="vm1",queue="1",direction="transmitq"} 10
    # HELP swivel_queue_bytes_total Bytes of those frames, from Ethernet header to payload.
    # TYPE swivel_queue_bytes_total counter
    swivel_queue_bytes_total{port="vm1",queue="0",direction="receiveq"} 1100
    swivel_queue_bytes_total{port="vm1",queue="1",direction="transmitq"} 1000
    # HELP swivel_queue_bursts_total Bursts that carried at least one frame.
    # TYPE swivel_queue_bursts_total counter
    swivel_queue_bursts_total{port="vm1",queue="0",direction="receiveq"} 5
    swivel_queue_bursts_total{port="vm1",queue="1",direction="transmitq"} 4
    # HELP swivel_queue_notifications_total Interrupts sent to the guest.
    # TYPE swivel_queue_notifications_total counter
    swivel_queue_notifications_total{port="vm1",queue="0",direction="receiveq"} 6
    swivel_queue_notifications_total{port="vm1",queue="1",direction="transmitq"} 0
    # HELP swivel_queue_replicas_total Copies beyond the first that floods made.
    # TYPE swivel_queue_replicas_total counter
    swivel_queue_replicas_total{port="vm1",queue="1",direction="transmitq"} 2
    # HELP swivel_queue_drops_total Frames that were not delivered, by reason.
    # TYPE swivel_queue_drops_total counter
    swivel_queue_drops_total{port="vm1",queue="1",direction="transmitq",reason="badHeader"} 2
    swivel_queue_drops_total{port="vm1",queue="1",direction="transmitq",reason="noBuffer"} 1
    # HELP swivel_worker_sleeping 1 when the worker sleeps, 0 when it polls.
    # TYPE swivel_worker_sleeping gauge
    swivel_worker_sleeping{worker="0",cpu="2",node="0"} 1
    # HELP swivel_worker_turns_total Turns of the worker's loop.
    # TYPE swivel_worker_turns_total counter
    swivel_worker_turns_total{worker="0",cpu="2",node="0"} 900
    # HELP swivel_worker_busy_turns_total Turns that moved at least one frame.
    # TYPE swivel_worker_busy_turns_total counter
    swivel_worker_busy_turns_total{worker="0",cpu="2",node="0"} 40
    # HELP swivel_worker_sleeps_total Times the worker went to sleep for want of work.
    # TYPE swivel_worker_sleeps_total counter
    swivel_worker_sleeps_total{worker="0",cpu="2",node="0"} 7

    """
}
