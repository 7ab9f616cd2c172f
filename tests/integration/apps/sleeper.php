<?php
// A one-call worker that sleeps for ?seconds= before it answers.

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

while (true) {
    $head = unpack('Cversion/Cflags/Vlength/Vcrc/Cbits/Creserved', read_exact(12));
    $words = ($head['version'] & 15) - 3;
    $options = $words > 0 ? array_values(unpack('V*', read_exact(4 * $words))) : [];
    $payload = $head['length'] ? read_exact($head['length']) : '';
    if ($head['flags'] & 0x01) {
        if (!empty(json_decode($payload, true)['stop'])) exit(0);
        write_frame(0x01, [], json_encode(['pid' => getmypid()]));
    } elseif (!($head['bits'] & 0x0A)) {
        $request = json_decode(substr($payload, 0, $options[0]), true);
        parse_str(parse_url($request['uri'], PHP_URL_QUERY) ?? '', $query);
        usleep((int) (1e6 * (float) ($query['seconds'] ?? 0)));
        $context = json_encode(['status' => 200, 'headers' => ['Content-Type' => ['text/plain']]]);
        write_frame(0x08, [strlen($context)], $context . "slept\n");
    }
}
