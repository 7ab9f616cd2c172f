<?php
// A one-call worker without any library: what is left to its user is one call.

function read_exact(int $size): string {
    for ($data = ''; strlen($data) < $size; $data .= $piece) {
        $piece = fread(STDIN, $size - strlen($data));
        if ($piece === '' || $piece === false) exit(0);
    }
    return $data;
}

function write_frame(int $flags, array $options, string $payload): void {
    $start = pack('CCV', 0x10 | (3 + count($options)), $flags, strlen($payload));
    fwrite(STDOUT, $start . pack('VCC', crc32($start), 0, 0) . pack('V*', ...$options) . $payload);
    fflush(STDOUT);
}

/** Calls $answer(context, body) for each call; it writes one frame. */
function serve(callable $answer): void {
    while (true) {
        $head = unpack('Cversion/Cflags/Vlength/Vcrc/Cbits/Creserved', read_exact(12));
        $words = ($head['version'] & 15) - 3;
        $options = $words > 0 ? array_values(unpack('V*', read_exact(4 * $words))) : [];
        $payload = $head['length'] ? read_exact($head['length']) : '';
        if ($head['flags'] & 0x01) {
            if (!empty(json_decode($payload, true)['stop'])) exit(0);
            write_frame(0x01, [], json_encode(['pid' => getmypid()]));
        } elseif (!($head['bits'] & 0x0A)) {
            $answer(json_decode(substr($payload, 0, $options[0]), true), substr($payload, $options[0]));
        }
    }
}
